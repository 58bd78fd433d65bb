int never_closed(int a {
