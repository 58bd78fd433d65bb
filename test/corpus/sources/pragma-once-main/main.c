#pragma once
int x = "a";
