// Says what a guest draws at random: once, as a program of an execution; or, in the agent's place as the guest's first process,
// again and again, which shows what clones of a machine draw whose kernel nobody had draw anew.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static void draw(char *line, size_t size) {
  unsigned char bytes[16] = {0};
  char uuid[64] = "none", hex[33];
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) abort();
  for (size_t i = 0; i < sizeof bytes; i++) sprintf(hex + 2 * i, "%02x", bytes[i]);
  FILE *file = fopen("/proc/sys/kernel/random/uuid", "r");
  if (file && fgets(uuid, sizeof uuid, file)) uuid[strcspn(uuid, "\n")] = 0;
  if (file) fclose(file);
  snprintf(line, size, "random %s uuid %s", hex, uuid);
}

static int once(void) {
  char line[256], name[] = "/tmp/hpcc-XXXXXX";
  struct timespec now;
  draw(line, sizeof line);
  int fd = mkstemp(name);
  clock_gettime(CLOCK_REALTIME, &now);
  printf("%s temp %s time %lld%09ld\n", line, fd < 0 ? strerrorname_np(errno) : name, (long long)now.tv_sec, now.tv_nsec);
  return 0;
}

int main(void) {
  char line[256];
  if (getpid() != 1 || access("/modules.list", R_OK) != 0) return once();
  mount("proc", "/proc", "proc", 0, NULL);
  for (unsigned long count = 0;; count++) {
    struct timespec pause = {0, 20000000};
    draw(line, sizeof line);
    printf("probe: %lu %s\n", count, line);
    fflush(stdout);
    nanosleep(&pause, NULL);
  }
}
