__attribute__((deprecated("use\n new_function"))) int old_function(void);
#define OLD_MACRO   ({ int   m; m; })
extern int also   __attribute__((   warning("called"))) (void);
