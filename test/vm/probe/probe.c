// What a hostile compile would try, as one static program in the test's toolchain: `probe <what>`. Each prints what it found,
// one fact a line, and exits 0 when it could say it.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void say(const char *what, int ok) { printf("%s %s\n", what, ok ? "ALLOWED" : strerrorname_np(errno)); }

static int sockets(void) {
  static const struct { const char *name; int family, type; } all[] = {
      {"AF_INET", AF_INET, SOCK_STREAM},     {"AF_INET_DGRAM", AF_INET, SOCK_DGRAM}, {"AF_INET6", AF_INET6, SOCK_STREAM},
      {"AF_PACKET", AF_PACKET, SOCK_RAW},    {"AF_VSOCK", AF_VSOCK, SOCK_STREAM},    {"AF_NETLINK", AF_NETLINK, SOCK_RAW},
      {"AF_ALG", AF_ALG, SOCK_SEQPACKET},
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) say(all[i].name, socket(all[i].family, all[i].type, 0) >= 0);
  say("/dev/vsock", open("/dev/vsock", O_RDONLY) >= 0);
  return 0;
}

static int interfaces(void) {
  char line[512];
  FILE *file = fopen("/proc/net/dev", "r");
  if (!file) return printf("/proc/net/dev %s\n", strerrorname_np(errno)), 0;
  while (fgets(line, sizeof line, file)) {
    char *colon = strchr(line, ':');
    if (colon) {
      *colon = 0;
      printf("interface %s\n", line + strspn(line, " "));
    }
  }
  return 0;
}

static int toolchain(void) {
  static const char *const paths[] = {"/usr/bin/gcc", "/usr/bin/new", "/new", "/usr/lib/new"};
  for (size_t i = 0; i < 4; i++) say(paths[i], open(paths[i], O_WRONLY | O_CREAT, 0755) >= 0);
  say("chmod", chmod("/usr/bin/probe", 0777) == 0);
  say("unlink", unlink("/usr/bin/probe") == 0);
  say("remount", mount(NULL, "/usr", NULL, MS_REMOUNT | MS_BIND, NULL) == 0);
  say("mount", mount("none", "/tmp", "tmpfs", 0, NULL) == 0);
  say("chroot", chroot("/tmp") == 0);
  say("setuid", setuid(0) == 0);
  return 0;
}

static int plant(void) {
  static const char *const paths[] = {"/hpcc/project/planted", "/hpcc/out/planted", "/tmp/planted", "/dev/shm/planted",
                                      "/planted", "/hpcc/planted", "/var/tmp/planted"};
  int planted = 0;
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) planted += open(paths[i], O_WRONLY | O_CREAT, 0666) >= 0;
  printf("planted %d\n", planted);
  fflush(stdout);
  if (fork() == 0) {
    setsid();
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    close(0), close(1), close(2);
    for (;;) pause();
  }
  return 0;
}

static void walk(const char *folder, int depth) {
  DIR *dir = depth < 12 ? opendir(folder) : NULL;
  if (!dir) return;
  for (struct dirent *entry; (entry = readdir(dir));) {
    char path[4096];
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    snprintf(path, sizeof path, "%s/%s", strcmp(folder, "/") ? folder : "", entry->d_name);
    if (strstr(entry->d_name, "planted")) printf("found %s\n", path);
    if (entry->d_type == DT_DIR && strcmp(path, "/proc")) walk(path, depth + 1);
  }
  closedir(dir);
}

static int look(void) {
  int processes = 0;
  DIR *dir = opendir("/proc");
  for (struct dirent *entry; dir && (entry = readdir(dir));) processes += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
  printf("processes %d\n", processes);
  walk("/", 0);
  return 0;
}

static int fork_bomb(void) {
  for (;;) fork();
  return 0;
}

static int spin(void) {
  for (volatile int i = 0;; i++) continue;
  return 0;
}

static int fill_memory(void) {
  for (;;) {
    char *block = malloc(1 << 20);
    if (block) memset(block, 1, 1 << 20);
  }
  return 0;
}

static int big_output(void) {
  static char block[1 << 20];
  int fd = open("/hpcc/out/big", O_WRONLY | O_CREAT, 0644);
  for (int i = 0; i < 3 << 10; i++)
    if (write(fd, block, sizeof block) < 0) return printf("stopped after %d MiB by %s\n", i, strerrorname_np(errno)), 1;
  return 0;
}

static int big_stderr(void) {
  static char block[1 << 16];
  for (int i = 0; i < 1 << 14; i++)
    if (write(2, block, sizeof block) < 0) return 1;
  return 0;
}

/** Fills the output with bytes that the host can make too. */
static int fill_output(void) {
  static unsigned char block[1 << 20];
  int fd = open("/hpcc/out/big", O_WRONLY | O_CREAT, 0644);
  for (int mib = 0; mib < 48; mib++) {
    for (size_t i = 0; i < sizeof block; i++) block[i] = (unsigned char)(i * 31 + (i >> 8) + (size_t)mib);
    if (write(fd, block, sizeof block) != sizeof block) return 1;
  }
  return close(fd);
}

static int tell_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  printf("%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec);
  return 0;
}

static int random_bytes(void) {
  unsigned char bytes[16];
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) return 1;
  for (size_t i = 0; i < sizeof bytes; i++) printf("%02x", bytes[i]);
  printf("\n");
  return 0;
}

/** Writes a variable to stderr, maps a file, and stays. */
static int hold(const char *path) {
  struct stat status;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &status) != 0) return 1;
  if (mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0) == MAP_FAILED) return 1;
  fprintf(stderr, "%s\n", getenv("CANARY_ON_STDERR"));
  for (;;) pause();
}

/** Asks the rooted guest's process (rooted.c), which finds it by its command line, and waits for its signal. */
static int ask_root(void) {
  sigset_t set;
  struct timespec deadline = {20, 0};
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  printf("asking\n");
  return sigtimedwait(&set, NULL, &deadline) == SIGUSR1 ? 0 : 3;
}

int main(int argc, char **argv) {
  static const struct { const char *name; int (*run)(void); } all[] = {
      {"sockets", sockets},     {"interfaces", interfaces}, {"toolchain", toolchain},   {"plant", plant},
      {"look", look},           {"fork-bomb", fork_bomb},   {"spin", spin},             {"fill-memory", fill_memory},
      {"big-output", big_output}, {"big-stderr", big_stderr}, {"fill-output", fill_output}, {"time", tell_time},
      {"random", random_bytes},
  };
  if (argc >= 3 && !strcmp(argv[1], "hold")) return hold(argv[2]);
  if (argc == 3 && !strcmp(argv[1], "ask-root")) return ask_root();
  for (size_t i = 0; argc >= 2 && i < sizeof all / sizeof *all; i++)
    if (!strcmp(argv[1], all[i].name)) return all[i].run();
  return 64;
}
