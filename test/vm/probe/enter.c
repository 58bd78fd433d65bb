/* enter FOLDER PWD PROGRAM ARGUMENT...: runs a program there, for images without a shell. PWD is "-" for none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 4 || chdir(argv[1]) != 0) {
        perror("enter");
        return 126;
    }
    if (strcmp(argv[2], "-") == 0)
        unsetenv("PWD");
    else
        setenv("PWD", argv[2], 1);
    execv(argv[3], argv + 3);
    perror(argv[3]);
    return 127;
}
