// What the guest's kernel lets a program do. Run by a compile it says what the compile may; as the guest's first process it
// starts /agent in its place, waits until that has set the kernel up, says what root of the guest still may, and turns the
// machine off. Facts are name=value, some on each line that begins with "kernel:".
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { LINE_LENGTH_MAX = 180, SETTINGS_WAIT_MS = 60000, FIFO_PRIORITY = 50 };

static char line[1024];

static void flush_line(void) {
  if (*line) printf("kernel:%s\n", line);
  *line = 0;
}

static void fact(const char *name, const char *value) {
  char word[256];
  snprintf(word, sizeof word, " %s=%s", name, *value ? value : "empty");
  for (char *c = word + 1; *c; c++)
    if (*c <= ' ' || *c > '~') *c = '_';
  if (strlen(line) + strlen(word) > LINE_LENGTH_MAX) flush_line();
  strcat(line, word);
}

static void tried(const char *name, long result) { fact(name, result >= 0 ? "ALLOWED" : strerrorname_np(errno)); }

static int text_of(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t length = read(fd, text, size - 1);
  close(fd);
  text[length < 0 ? 0 : length] = 0;
  text[strcspn(text, "\n")] = 0;
  return 0;
}

static void content(const char *name, const char *path) {
  char text[128];
  fact(name, text_of(path, text, sizeof text) == 0 ? text : strerrorname_np(errno));
}

static void is_there(const char *name, const char *path) { fact(name, access(path, F_OK) == 0 ? "yes" : strerrorname_np(errno)); }

/** A device by its number: a compile that has no name for it might make one. */
static void device(const char *name, const char *path, unsigned major, unsigned minor) {
  unlink(path);
  if (mknod(path, S_IFCHR | 0600, makedev(major, minor)) != 0) return tried(name, -1);
  tried(name, open(path, O_RDONLY | O_CLOEXEC));
  unlink(path);
}

static void calls(void) {
  union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
  tried("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
  struct io_uring_params ring = {0};
  tried("io_uring_setup", syscall(SYS_io_uring_setup, 1, &ring));
  tried("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
  struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event, .config = PERF_COUNT_SW_CPU_CLOCK};
  tried("perf_event_open", syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
  tried("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
  tried("kexec_file_load", syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0));
  tried("init_module", syscall(SYS_init_module, "", 0, ""));
  tried("iopl", iopl(3));
  tried("ioperm", ioperm(0x80, 1, 1));
  tried("add_key", syscall(SYS_add_key, "user", "k", "v", 1, -3));
  tried("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
  // In a child: what it gains ends with it.
  pid_t child = fork();
  if (child == 0) _exit(unshare(CLONE_NEWUSER) == 0 ? 0 : errno);
  int status = 0;
  waitpid(child, &status, 0);
  errno = WEXITSTATUS(status);
  tried("user_namespace", status == 0 ? 0 : -1);
}

static void sockets(void) {
  static const struct { const char *name; int family, type; } all[] = {
      {"AF_INET", AF_INET, SOCK_STREAM}, {"AF_INET6", AF_INET6, SOCK_STREAM}, {"AF_PACKET", AF_PACKET, SOCK_RAW},
      {"AF_NETLINK", AF_NETLINK, SOCK_RAW}, {"AF_VSOCK", AF_VSOCK, SOCK_STREAM}, {"AF_ALG", AF_ALG, SOCK_SEQPACKET},
      {"AF_UNIX", AF_UNIX, SOCK_STREAM},
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) tried(all[i].name, socket(all[i].family, all[i].type | SOCK_CLOEXEC, 0));
  int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_vm local = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL, .svm_port = 9};
  tried("vsock_loopback", fd < 0 ? -1 : connect(fd, (struct sockaddr *)&local, sizeof local));
}

static void network(void) {
  char text[512], others[256] = "";
  FILE *file = fopen("/proc/net/dev", "r");
  if (!file) return tried("interfaces", -1);
  while (fgets(text, sizeof text, file)) {
    char *colon = strchr(text, ':');
    if (!colon) continue;
    *colon = 0;
    strncat(others, text + strspn(text, " "), 32);
    strcat(others, ",");
  }
  fclose(file);
  fact("interfaces", others);
}

/** What the kernel says of its memory at boot: "mem auto-init: stack:off, heap alloc:on, heap free:on". */
static void memory(void) {
  static char log[1 << 20];
  int length = klogctl(3, log, sizeof log - 1);
  if (length < 0) return tried("dmesg", -1);
  fact("dmesg", "ALLOWED");
  log[length] = 0;
  char *said = strstr(log, "mem auto-init: ");
  fact("init_on_free", !said ? "unsaid" : strstr(strtok(said, "\n"), "heap free:on") ? "on" : "off");
}

static void settings(void) {
  static const char *const all[] = {
      "kernel/modules_disabled", "kernel/kexec_load_disabled", "kernel/dmesg_restrict", "kernel/kptr_restrict",
      "kernel/unprivileged_bpf_disabled", "kernel/io_uring_disabled", "kernel/perf_event_paranoid", "kernel/randomize_va_space",
      "kernel/yama/ptrace_scope", "kernel/sysrq", "kernel/core_pattern", "user/max_user_namespaces",
      "vm/unprivileged_userfaultfd", "fs/suid_dumpable", "kernel/panic", "kernel/panic_on_oops",
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/%s", all[i]);
    content(strrchr(all[i], '/') + 1, path);
  }
}

static void system_files(void) {
  is_there("config_gz", "/proc/config.gz");
  is_there("virtio_net", "/sys/bus/virtio/drivers/virtio_net");
  is_there("vmgenid", access("/sys/bus/acpi/drivers/vmgenid", F_OK) == 0 ? "/sys/bus/acpi/drivers/vmgenid" : "/sys/bus/platform/drivers/vmgenid");
  is_there("acpi", "/sys/firmware/acpi");
  content("hw_random", "/sys/class/misc/hw_random/rng_current");
  content("lsm", "/sys/kernel/security/lsm");
  content("lockdown", "/sys/kernel/security/lockdown");
  tried("landlock", syscall(SYS_landlock_create_ruleset, NULL, 0, 1));
}

static void devices(void) {
  device("dev_mem", "/tmp/probe-mem", 1, 1);
  device("dev_port", "/tmp/probe-port", 1, 4);
  device("dev_net_tun", "/tmp/probe-tun", 10, 200);
  device("dev_msr", "/tmp/probe-msr", 202, 0);
  tried("proc_kcore", open("/proc/kcore", O_RDONLY | O_CLOEXEC));
}

static void everything(void) {
  calls();
  sockets();
  network();
  devices();
  memory();
  settings();
  system_files();
  flush_line();
  fflush(stdout);
}

/** Where the kernel's text begins: the address that it is linked for, unless it was moved. */
static void address(void) {
  char text[128];
  FILE *file = fopen("/proc/kallsyms", "r");
  const char *moved = "unknown";
  while (file && fgets(text, sizeof text, file))
    if (strstr(text, " T _text\n") || strstr(text, " T startup_64\n")) {
      unsigned long long at = strtoull(text, NULL, 16);
      moved = at == 0 ? "hidden" : at == 0xffffffff81000000ull ? "no" : "yes";
      break;
    }
  fact("kernel_moved", moved);
}

static void as_root(void) {
  unshare(CLONE_NEWNS);
  mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
  mkdir("/tmp", 0700);
  mount("proc", "/proc", "proc", 0, NULL);
  mount("sysfs", "/sys", "sysfs", 0, NULL);
  mount("securityfs", "/sys/kernel/security", "securityfs", 0, NULL);
  address();
  // The agent's last setting; then it is not given the processor any more.
  sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = FIFO_PRIORITY});
  char text[32] = "";
  for (int ms = 0; ms < SETTINGS_WAIT_MS && strcmp(text, "0") != 0; ms++) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (text_of("/proc/sys/vm/swappiness", text, sizeof text) != 0) strcpy(text, "");
  }
  fact("agent_settings", strcmp(text, "0") == 0 ? "applied" : "missing");
  everything();
  tcdrain(1);
  reboot(RB_POWER_OFF);
}

int main(int argc, char **argv) {
  (void)argc;
  if (getpid() == 1 && access("/agent", X_OK) == 0) {
    if (fork() != 0) return execv("/agent", argv);
    as_root();
    return 1;
  }
  everything();
  return 0;
}
