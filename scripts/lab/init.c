/* First program of the KVM lab: makes the host's file system, read-only over virtiofs under a tmpfs, the root, and leaves the
 * rest to guest.sh and a shell of that root. The jailer wants a root that is not the initramfs, so the mount is moved. */
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void check(int result, const char *what) {
  if (result >= 0) return;
  printf("lab: %s: %m\n", what);
  fflush(stdout);
  reboot(RB_POWER_OFF);
  _exit(1);
}

static void load_modules(void) {
  char path[256];
  FILE *list = fopen("/modules.list", "r");
  check(list ? 0 : -1, "modules.list");
  while (fscanf(list, "%255s", path) == 1) {
    int module = open(path, O_RDONLY | O_CLOEXEC);
    check(module, path);
    check((int)syscall(SYS_finit_module, module, "", 0), path);
    close(module);
  }
  fclose(list);
}

static void raise_loopback(void) {
  struct ifreq request = {.ifr_flags = IFF_UP | IFF_RUNNING};
  int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  strcpy(request.ifr_name, "lo");
  check(ioctl(any, SIOCSIFFLAGS, &request), "lo");
  close(any);
}

int main(void) {
  load_modules();
  raise_loopback();
  check(sethostname("lab", 3), "hostname");
  /* Descriptors 3 and 4: the script of the rest, and the host's root, which the overlay hides. Neither has a name there. */
  check(open("/guest.sh", O_RDONLY), "guest.sh");
  check(mount("host", "/host", "virtiofs", 0, NULL), "virtiofs");
  check(mount("lab", "/written", "tmpfs", 0, "mode=755,size=75%"), "tmpfs");
  check(mkdir("/written/upper", 0755), "upper");
  check(mkdir("/written/work", 0755), "work");
  check(mount("lab", "/root", "overlay", 0, "lowerdir=/host,upperdir=/written/upper,workdir=/written/work"), "overlay");
  check(mount("proc", "/root/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
  check(open("/host", O_RDONLY | O_DIRECTORY), "/host");
  check(chdir("/root"), "/root");
  check(mount(".", "/", NULL, MS_MOVE, NULL), "root");
  check(chroot("."), "chroot");
  execl("/bin/bash", "bash", "/proc/self/fd/3", "/proc/self/fd/4", NULL);
  check(-1, "/bin/bash");
}
