#define TAKEN(x)   ((x)   /   2)
int not_taken;
