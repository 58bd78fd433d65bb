#define GENERATED   1
