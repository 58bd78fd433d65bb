#define FORCED(x)    ((x)   * 2)
#define   TWO   2
