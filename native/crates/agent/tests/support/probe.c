/* What a hostile or careless program does in a sandbox; each action says what it saw. Static, so that it runs in any
   toolchain. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void answer(const char *name, long result) {
  printf("%s %s\n", name, result < 0 ? strerrorname_np(errno) : "ok");
}

static void list(const char *path) {
  DIR *folder = opendir(path);
  struct dirent *entry;
  if (!folder) {
    printf("%s: %s\n", path, strerrorname_np(errno));
    return;
  }
  while ((entry = readdir(folder)))
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) printf("%s/%s\n", path, entry->d_name);
  closedir(folder);
}

static void sockets(void) {
  int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_ALG, AF_BLUETOOTH};
  const char *names[] = {"unix", "inet", "inet6", "netlink", "packet", "vsock", "alg", "bluetooth"};
  for (int i = 0; i < 8; i++) answer(names[i], socket(families[i], i == 3 || i == 4 ? SOCK_RAW : SOCK_STREAM, 0));
  answer("vsock-dgram", socket(AF_VSOCK, SOCK_DGRAM, 0));
}

static void calls(void) {
  answer("mount", mount("none", "/tmp", "tmpfs", 0, ""));
  answer("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
  answer("unshare-user", unshare(CLONE_NEWUSER));
  answer("unshare-net", unshare(CLONE_NEWNET));
  answer("clone-user", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
  answer("clone3", syscall(SYS_clone3, 0, 0));
  answer("bpf", syscall(SYS_bpf, 0, 0, 0));
  answer("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
  answer("io_uring", syscall(SYS_io_uring_setup, 1, 0));
  answer("userfaultfd", syscall(SYS_userfaultfd, 0));
  answer("perf", syscall(SYS_perf_event_open, 0, 0, 0, 0, 0));
  answer("finit_module", syscall(SYS_finit_module, 0, "", 0));
  answer("chroot", chroot("/tmp"));
  answer("mknod", mknod("/tmp/n", S_IFCHR | 0666, 0x103));
  answer("sethostname", sethostname("x", 1));
  answer("setuid-root", setuid(0));
  answer("kill-init", kill(1, SIGKILL));
}

static void self(void) {
  struct utsname name;
  char line[256], cwd[4096];
  FILE *status = fopen("/proc/self/status", "r");
  uname(&name);
  printf("host %s pid %d uid %d gid %d groups %d sid %d\n", name.nodename, getpid(), getuid(), getgid(),
         getgroups(0, 0), getsid(0) == getpid());
  printf("cwd %s umask %o\n", getcwd(cwd, sizeof cwd), umask(0));
  while (status && fgets(line, sizeof line, status))
    if (!strncmp(line, "Cap", 3) || !strncmp(line, "NoNewPrivs", 10) || !strncmp(line, "Seccomp:", 8) ||
        !strncmp(line, "Sig", 3))
      fputs(line, stdout);
  for (int fd = 0; fd < 4096; fd++)
    if (fcntl(fd, F_GETFD) >= 0) printf("fd %d\n", fd);
}

static void escape_files(void) {
  const char *paths[] = {"/usr/bin/evil", "/etc/evil", "/evil", "/dev/evil", "/probe/evil", "/proc/sys/kernel/hostname"};
  for (int i = 0; i < 6; i++) answer(paths[i], open(paths[i], O_WRONLY | O_CREAT, 0644));
  answer("/hpcc/project/ok", open("/hpcc/project/ok", O_WRONLY | O_CREAT, 0644));
  answer("/tmp/ok", open("/tmp/ok", O_WRONLY | O_CREAT, 0644));
  answer("/proc/1/root", open("/proc/1/root", O_RDONLY));
  answer("/proc/1/exe", open("/proc/1/exe", O_RDONLY));
}

/* Leaves a process in a session of its own that has closed everything. */
static void plant(const char *name) {
  if (fork()) return;
  setsid();
  if (fork()) _exit(0);
  for (int fd = 0; fd < 64; fd++) close(fd);
  prctl(PR_SET_NAME, name);
  for (;;) pause();
}

#define PLANTED_KEY 0x68706363
#define PLANTED_QUEUE "/hpcc-planted"

/* Objects that outlive processes, where the filter lets it. */
static void plant_objects(void) {
  answer("shm", shmget(PLANTED_KEY, 4096, IPC_CREAT | 0666));
  answer("sem", semget(PLANTED_KEY, 1, IPC_CREAT | 0666));
  answer("msg", msgget(PLANTED_KEY, IPC_CREAT | 0666));
  struct mq_attr one = {.mq_maxmsg = 1, .mq_msgsize = 8};
  answer("mq", mq_open(PLANTED_QUEUE, O_RDWR | O_CREAT, 0666, &one));
}

static void find_objects(void) {
  answer("shm", shmget(PLANTED_KEY, 0, 0));
  answer("sem", semget(PLANTED_KEY, 0, 0));
  answer("msg", msgget(PLANTED_KEY, 0));
  answer("mq", mq_open(PLANTED_QUEUE, O_RDWR));
}

static struct sockaddr_un abstract_address = {AF_UNIX, "\0hpcc-planted"};

/* Plants all that an execution might leave for another one; with "hold" it stays. */
static void leave(int hold) {
  plant("hpcc-planted");
  plant_objects();
  answer("key", syscall(SYS_add_key, "user", "hpcc-planted", "x", 1, -4 /* the user's keyring */));
  answer("keyring", syscall(SYS_keyctl, 1 /* join a session keyring */, 0));
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  bind(listener, (struct sockaddr *)&abstract_address, sizeof abstract_address);
  answer("abstract", listen(listener, 5));
  struct timespec time = {1000000000, 0};
  struct timeval old = {1000000000, 0};
  answer("clock", clock_settime(CLOCK_REALTIME, &time));
  answer("timeofday", settimeofday(&old, 0));
  answer("time-namespace", unshare(0x80));
  answer("hostname", sethostname("planted", 7));
  answer("domainname", setdomainname("planted", 7));
  answer("inotify", inotify_init1(0));
  answer("posix-shm", open("/dev/shm/hpcc-planted", O_RDWR | O_CREAT, 0666));
  answer("tmp", open("/tmp/hpcc-planted", O_RDWR | O_CREAT, 0666));
  answer("project", open("/hpcc/project/hpcc-planted", O_RDWR | O_CREAT, 0666));
  answer("toolchain", open("/usr/bin/hpcc-planted", O_RDWR | O_CREAT, 0666));
  answer("own-ptrace", ptrace(PTRACE_ATTACH, getppid(), 0, 0));
  fflush(stdout);
  while (hold) pause();
}

/* Looks for all of it. */
static void find(void) {
  find_objects();
  answer("key", syscall(SYS_request_key, "user", "hpcc-planted", 0, 0));
  int peer = socket(AF_UNIX, SOCK_STREAM, 0);
  answer("abstract", connect(peer, (struct sockaddr *)&abstract_address, sizeof abstract_address));
  answer("posix-shm", open("/dev/shm/hpcc-planted", O_RDONLY));
  answer("tmp", open("/tmp/hpcc-planted", O_RDONLY));
  answer("project", open("/hpcc/project/hpcc-planted", O_RDONLY));
  answer("toolchain", open("/usr/bin/hpcc-planted", O_RDONLY));
  int reached = 0;
  for (int pid = 3; pid < 300; pid++)
    if (kill(pid, 0) == 0 || errno != ESRCH) reached++;
  printf("processes %d\n", reached);
  struct utsname name;
  uname(&name);
  printf("names %s %s\n", name.nodename, name.domainname);
  printf("time %ld\n", (long)time(0));
}

/* As root in the agent's own namespaces, beside it: what a session that was taken over might leave. */
static void plant_beside(void) {
  plant_objects();
  answer("mount", mount("none", "/sandbox", "tmpfs", 0, ""));
  answer("mount-over", mount("none", "/sandbox", "tmpfs", 0, ""));
  if (fork()) return;
  setsid();
  prctl(PR_SET_NAME, "hpcc-beside");
  for (int fd = 0; fd < 64; fd++) close(fd);
  signal(SIGTERM, SIG_IGN);
  for (;;) pause();
}

static void grow_file(const char *path, long long bytes) {
  static char block[1 << 20];
  int file = open(path, O_WRONLY | O_CREAT, 0644);
  memset(block, 'x', sizeof block);
  for (; bytes > 0; bytes -= sizeof block)
    if (write(file, block, sizeof block) < 0) {
      perror("write");
      exit(1);
    }
}

int main(int argc, char **argv) {
  const char *action = argc > 1 ? argv[1] : "";
  if (!strcmp(action, "sockets")) sockets();
  else if (!strcmp(action, "calls")) calls();
  else if (!strcmp(action, "self")) self();
  else if (!strcmp(action, "ls")) for (int i = 2; i < argc; i++) list(argv[i]);
  else if (!strcmp(action, "escape")) escape_files();
  else if (!strcmp(action, "plant")) plant(argv[2]);
  else if (!strcmp(action, "leave")) leave(argc > 2);
  else if (!strcmp(action, "find")) find();
  else if (!strcmp(action, "plant-beside")) plant_beside();
  else if (!strcmp(action, "find-objects")) find_objects();
  else if (!strcmp(action, "exit")) return atoi(argv[2]);
  else if (!strcmp(action, "raise")) raise(atoi(argv[2]));
  else if (!strcmp(action, "abort")) abort();
  else if (!strcmp(action, "spin")) for (;;) ;
  else if (!strcmp(action, "named")) {
    prctl(PR_SET_NAME, argv[2]);
    for (;;) pause();
  }
  else if (!strcmp(action, "forks")) for (;;) fork();
  else if (!strcmp(action, "fork-fail")) {
    for (;;) {
      pid_t pid = fork();
      if (pid == 0) for (;;) pause();
      if (pid < 0) return 3;
    }
  }
  else if (!strcmp(action, "grow")) grow_file(argv[2], atoll(argv[3]));
  else if (!strcmp(action, "eat")) {
    size_t bytes = atoll(argv[2]);
    volatile char *memory =
        mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
  }
  else if (!strcmp(action, "chatter")) for (long i = 0;; i++) printf("%ld\n", i);
  else if (!strcmp(action, "link")) {
    answer("link", symlink(argv[2], argv[3]));
  }
  else if (!strcmp(action, "fifo")) answer("fifo", mkfifo(argv[2], 0600));
  else if (!strcmp(action, "terminal")) {
    struct winsize size = {0};
    int known = ioctl(2, TIOCGWINSZ, &size);
    printf("stdin %d stdout %d stderr %d columns %d %d\n", isatty(0), isatty(1), isatty(2), known, size.ws_col);
    fflush(stdout);
    for (long bytes = argc > 2 ? atol(argv[2]) : 0; bytes > 0; bytes--) fputc('e', stderr);
    fputs("one\n\ttwo\x04\x03 three\n", stderr);
  }
  else if (!strcmp(action, "reopen")) {
    FILE *out = fopen("/dev/stdout", "w"), *err = fopen("/dev/stderr", "w");
    if (!out || !err) return 1;
    fputs("out\n", out);
    fputs("err\n", err);
  }
  else if (!strcmp(action, "arguments")) {
    for (int i = 0; i < argc; i++) printf("%s\n", argv[i]);
    for (char **entry = environ; *entry; entry++) printf("%s\n", *entry);
  }
  else if (!strcmp(action, "stat")) {
    for (int i = 2; i < argc; i++) {
      struct stat s;
      if (stat(argv[i], &s)) printf("%s %s\n", argv[i], strerrorname_np(errno));
      else printf("%s %o %lld %lld.%09ld own=%d\n", argv[i], s.st_mode, (long long)s.st_size, (long long)s.st_mtim.tv_sec,
                  s.st_mtim.tv_nsec, s.st_uid == getuid());
    }
  }
  else if (!strcmp(action, "places")) {
    /* What stands at a path, what a link says, and what it leads to. */
    for (int i = 2; i < argc; i++) {
      struct stat s;
      char target[4097] = "";
      if (lstat(argv[i], &s)) {
        printf("%s %s\n", argv[i], strerrorname_np(errno));
        continue;
      }
      printf("%s %o", argv[i], s.st_mode);
      if (S_ISLNK(s.st_mode)) {
        readlink(argv[i], target, sizeof target - 1);
        if (stat(argv[i], &s)) printf(" %s -> %s", target, strerrorname_np(errno));
        else printf(" %s -> %o", target, s.st_mode);
      }
      printf("\n");
    }
  }
  else if (!strcmp(action, "write")) answer(argv[2], open(argv[2], O_WRONLY | O_CREAT, 0644));
  else if (!strcmp(action, "run")) {
    execv(argv[2], argv + 2);
    answer("exec", -1);
  }
  else return 99;
  return 0;
}
