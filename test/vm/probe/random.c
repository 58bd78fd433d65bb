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

static void fill(unsigned char bytes[16]) {
  if (getrandom(bytes, 16, 0) != 16) abort();
}

/** The kernel's own UUID, or where it shows none, as in a sandbox, one as libraries make it. */
static void make_uuid(char text[64]) {
  unsigned char b[16];
  FILE *file = fopen("/proc/sys/kernel/random/uuid", "r");
  int given = file && fgets(text, 64, file);
  if (file) fclose(file);
  text[strcspn(text, "\n")] = 0;
  if (given) return;
  fill(b);
  b[6] = 0x40 | (b[6] & 0x0f);
  b[8] = 0x80 | (b[8] & 0x3f);
  sprintf(text, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5],
          b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static void draw(char *line, size_t size) {
  unsigned char bytes[16];
  char uuid[64] = "", hex[33];
  fill(bytes);
  for (size_t i = 0; i < sizeof bytes; i++) sprintf(hex + 2 * i, "%02x", bytes[i]);
  make_uuid(uuid);
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
