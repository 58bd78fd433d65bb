// A guest whose root is the tenant's: the first process of its initramfs in the agent's place. It leaves a child behind that is root,
// outside every sandbox and unknown to the agent, and then becomes the agent, which is appended to this file (its size in the last eight bytes).
// The child does what an execution asks for that runs `probe ask-root <what>`, and answers with a signal.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define MARKER_BYTES 32
#define BLOCK_BYTES 65536

// Markers are made when they are planted, so that this program does not hold them. The host makes the same ones (rooted-guest.ts).
static void make_marker(unsigned kind, unsigned char *marker) {
  volatile uint32_t state = 0x9e3779b9u ^ (kind + 1) * 0x85ebca6bu;
  for (int i = 0; i < MARKER_BYTES; i++) {
    uint32_t x = state;
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    state = x;
    marker[i] = (unsigned char)(x >> 11) | 1;
  }
}

static void fill(unsigned kind, unsigned char *block) {
  for (size_t at = 0; at < BLOCK_BYTES; at += MARKER_BYTES) make_marker(kind, block + at);
}

// To be closed when all is planted.
static int planted = -1;

static void say(const char *text) {
  int fd = open("/dev/console", O_WRONLY | O_NOCTTY);
  if (fd >= 0) dprintf(fd, "rooted: %s\n", text), close(fd);
}

static void write_text(const char *path, const char *text) {
  int fd = open(path, O_WRONLY);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) say(path);
  if (fd >= 0) close(fd);
}

static int write_block(unsigned kind, const char *path) {
  static unsigned char block[BLOCK_BYTES];
  int fd = open(path, O_RDWR | O_CREAT, 0600);
  fill(kind, block);
  if (fd < 0 || write(fd, block, sizeof block) != sizeof block) say(path);
  memset(block, 0, sizeof block);
  return fd;
}

static void plant_shm(unsigned kind) {
  int id = shmget(IPC_PRIVATE, BLOCK_BYTES, IPC_CREAT | 0600);
  unsigned char *at = shmat(id, NULL, 0);
  if (at == (void *)-1) return say("shm");
  fill(kind, at);
  shmdt(at);
}

// What outlives its process in the agent's own namespaces.
static void plant_objects(void) {
  unsigned char marker[MARKER_BYTES];
  struct {
    long type;
    unsigned char text[MARKER_BYTES];
  } message = {1, {0}};
  int namespace = open("/own-proc/1/ns/mnt", O_RDONLY), root = open("/own-proc/1/root", O_RDONLY | O_DIRECTORY);
  if (setns(namespace, CLONE_NEWNS) != 0 || fchdir(root) != 0 || chroot(".") != 0) return say("no way into the agent's namespace");
  if (mount("planted", "/sandbox", "tmpfs", 0, NULL) != 0) say("mount");
  close(write_block(0, "/sandbox/planted"));
  plant_shm(1);
  mqd_t queue = mq_open("/planted", O_RDWR | O_CREAT, 0600, NULL);
  make_marker(2, marker);
  if (queue == (mqd_t)-1 || mq_send(queue, (char *)marker, sizeof marker, 0) != 0) say("mq");
  make_marker(3, message.text);
  if (msgsnd(msgget(IPC_PRIVATE, IPC_CREAT | 0600), &message, sizeof message.text, 0) != 0) say("msg");
  make_marker(4, marker);
  // KEY_SPEC_USER_KEYRING
  if (syscall(SYS_add_key, "user", "planted", marker, sizeof marker, -4) < 0) say("key");
}

// What a process holds that does not want to end, in namespaces of its own.
static void plant_daemon(void) {
  unsigned char marker[MARKER_BYTES];
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  int ends[2];
  for (int number = 1; number < NSIG; number++) signal(number, SIG_IGN);
  setsid();
  if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWCGROUP) != 0) say("unshare");
  if (fork() != 0) _exit(0);
  mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
  int memfd = memfd_create("planted", 0);
  unsigned char *block = malloc(BLOCK_BYTES);
  fill(5, block);
  if (write(memfd, block, BLOCK_BYTES) != BLOCK_BYTES) say("memfd");
  fill(6, block);
  make_marker(7, marker);
  if (pipe(ends) != 0 || write(ends[1], marker, sizeof marker) < 0) say("pipe");
  make_marker(8, marker);
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || send(ends[0], marker, sizeof marker, 0) < 0) say("socketpair");
  if (mount("planted", "/proc", "tmpfs", 0, NULL) != 0) say("private mount");
  close(write_block(9, "/proc/planted"));
  write_block(10, "/proc/deleted");
  unlink("/proc/deleted");
  plant_shm(11);
  make_marker(12, (unsigned char *)name.sun_path + 1);
  if (bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&name, sizeof(sa_family_t) + 1 + MARKER_BYTES) != 0) say("abstract");
  make_marker(13, marker);
  if (sethostname((char *)marker, sizeof marker) != 0) say("hostname");
  memset(marker, 0, sizeof marker);
  close(planted);
  for (;;) pause();
}

// Returns when it is planted: when the child says so or ends.
static void in_child(void (*plant)(void)) {
  int ends[2];
  char byte;
  if (pipe(ends) != 0) return say("pipe");
  if (fork() != 0) {
    close(ends[1]);
    while (read(ends[0], &byte, 1) < 0) continue;
    close(ends[0]);
    return;
  }
  close(ends[0]);
  planted = ends[1];
  plant();
  _exit(0);
}

static void freeze_agent(void) {
  mkdir("/own-cgroup", 0700);
  if (mount("cgroup2", "/own-cgroup", "cgroup2", 0, NULL) != 0) say("cgroup2");
  mkdir("/own-cgroup/frozen", 0700);
  write_text("/own-cgroup/frozen/cgroup.procs", "1");
  write_text("/own-cgroup/frozen/cgroup.freeze", "1");
}

static void obey(const char *what) {
  if (!strcmp(what, "plant")) {
    in_child(plant_objects);
    in_child(plant_daemon);
  }
  // Where the agent does not look: the file system that its own root hides.
  if (!strcmp(what, "plant-below")) close(write_block(14, "/planted"));
  if (!strcmp(what, "freeze")) freeze_agent();
  // All but this process and the first.
  if (!strcmp(what, "kill-all")) kill(-1, SIGKILL);
  if (!strcmp(what, "stop-all")) kill(-1, SIGSTOP);
  if (!strcmp(what, "panic")) {
    write_text("/own-proc/sys/kernel/sysrq", "1");
    write_text("/own-proc/sysrq-trigger", "c");
  }
}

// Looks for a process that asks, obeys, and tells it.
static void serve(void) {
  signal(SIGCHLD, SIG_IGN);
  unshare(CLONE_NEWNS);
  mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
  mkdir("/own-proc", 0700);
  if (mount("proc", "/own-proc", "proc", 0, NULL) != 0) say("proc");
  for (pid_t answered = 0;; usleep(20000)) {
    DIR *processes = opendir("/own-proc");
    for (struct dirent *entry; processes && (entry = readdir(processes));) {
      char path[300], line[256] = "";
      pid_t pid = atoi(entry->d_name);
      snprintf(path, sizeof path, "/own-proc/%s/cmdline", entry->d_name);
      int fd = pid > 1 && pid != answered ? open(path, O_RDONLY) : -1;
      ssize_t length = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
      if (fd >= 0) close(fd);
      const char *second = line + strlen(line) + 1;
      if (length <= 0 || second >= line + length || strcmp(second, "ask-root")) continue;
      answered = pid;
      obey(second + strlen(second) + 1);
      kill(pid, SIGUSR1);
    }
    if (processes) closedir(processes);
  }
}

int main(void) {
  uint64_t size = 0;
  struct stat whole;
  int self = open("/init", O_RDONLY), agent = memfd_create("agent", MFD_CLOEXEC);
  if (fstat(self, &whole) != 0 || pread(self, &size, sizeof size, whole.st_size - 8) != 8) say("no agent is appended");
  off_t at = whole.st_size - 8 - (off_t)size;
  while (size > 0) {
    ssize_t sent = sendfile(agent, self, &at, size);
    if (sent <= 0) break;
    size -= (uint64_t)sent;
  }
  if (fork() == 0) serve();
  char *argv[] = {"/init", NULL}, *environment[] = {NULL};
  fexecve(agent, argv, environment);
  say("the agent does not start");
  return 1;
}
