#pragma GCC diagnostic push
#  pragma   GCC   diagnostic ignored   "-Wunused-variable"
void quiet(void) { int silent; }
#pragma GCC diagnostic pop
void loud(void) { int heard; }
#pragma GCC diagnostic error "-Wunused-variable"
void fatal(void) { int deadly; }
_Pragma("GCC diagnostic ignored \"-Wunused-variable\"")
void hushed(void) { int unheard; }
#define HUSH _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wconversion\"")
HUSH char narrowed(int i) { return i; }
