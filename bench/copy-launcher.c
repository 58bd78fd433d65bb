// copy-launcher COMPILER ARGUMENTS...: the least that a launcher can do. The first compile runs and what it leaves at -o and -MF is kept beside
// it; later ones copy that and look at nothing. What a build takes with it is the build system's, and the same for every cache.
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int copy(const char *from, const char *to) {
  static char bytes[1 << 20];
  int in = open(from, O_RDONLY), out;
  ssize_t count;
  if (in < 0) return -1;
  unlink(to);
  out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0666);
  if (out < 0) return -1;
  while ((count = read(in, bytes, sizeof bytes)) > 0)
    if (write(out, bytes, count) != count) return -1;
  return count < 0 || close(out) != 0 || close(in) != 0 ? -1 : 0;
}

/** Copies each output from where it is kept, or to there. */
static int outputs(int argc, char **argv, int keep) {
  for (int i = 1; i + 1 < argc; i++) {
    char kept[4096];
    if (strcmp(argv[i], "-o") != 0 && strcmp(argv[i], "-MF") != 0) continue;
    snprintf(kept, sizeof kept, "%s.kept", argv[i + 1]);
    if (keep ? copy(argv[i + 1], kept) : copy(kept, argv[i + 1])) return -1;
  }
  return 0;
}

int main(int argc, char **argv) {
  pid_t child;
  int status;
  if (argc < 2) return 2;
  if (outputs(argc, argv, 0) == 0) return 0;
  if (posix_spawnp(&child, argv[1], NULL, NULL, argv + 1, environ) != 0 || waitpid(child, &status, 0) != child) return 1;
  if (status != 0) return 1;
  return outputs(argc, argv, 1) == 0 ? 0 : 1;
}
