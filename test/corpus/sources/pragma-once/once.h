#pragma once
#define ONCE   "text"
static int unused_once;
