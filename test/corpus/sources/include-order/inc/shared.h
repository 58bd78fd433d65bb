#define SHARED "string"
