#pragma once
inline int own() { return 1; }
