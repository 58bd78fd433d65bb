#pragma message "before a define"
#define AFTER 1
int after = AFTER + "x";
