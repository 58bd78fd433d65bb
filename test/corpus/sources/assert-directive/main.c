#assert machine_kind(fast)
#if #machine_kind(fast)
int x = "a";
#endif
