#define API   "api"
