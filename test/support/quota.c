/* Loaded into a program by LD_PRELOAD: while the file that QUOTA_FLAG names is there, nothing can be made or written below the folder
 * that QUOTA_FOLDER names, as when a disk quota is used up. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

static int used_up(const char *path) {
  const char *flag = getenv("QUOTA_FLAG"), *folder = getenv("QUOTA_FOLDER");
  int saved = errno;
  int yes = flag && folder && strncmp(path, folder, strlen(folder)) == 0 && access(flag, F_OK) == 0;
  errno = saved;
  return yes;
}

static int used_up_at(int fd) {
  char link[64], path[PATH_MAX];
  int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = saved;
  if (length < 0) return 0;
  path[length] = 0;
  return used_up(path);
}

#define REFUSE(condition) \
  do { \
    if (condition) { \
      errno = EDQUOT; \
      return -1; \
    } \
  } while (0)

ssize_t write(int fd, const void *bytes, size_t size) {
  REFUSE(used_up_at(fd));
  return REAL(write)(fd, bytes, size);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  REFUSE(used_up_at(fd));
  return REAL(writev)(fd, parts, count);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
  REFUSE(used_up_at(fd));
  return REAL(pwrite64)(fd, bytes, size, at);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
  REFUSE(used_up_at(fd));
  return REAL(pwritev64)(fd, parts, count, at);
}
int ftruncate64(int fd, off64_t size) {
  REFUSE(size > 0 && used_up_at(fd));
  return REAL(ftruncate64)(fd, size);
}
int mkdir(const char *path, mode_t mode) {
  REFUSE(used_up(path));
  return REAL(mkdir)(path, mode);
}
int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  REFUSE((flags & O_CREAT) && access(path, F_OK) != 0 && used_up(path));
  return REAL(open64)(path, flags, mode);
}
