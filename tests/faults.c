/* Fail the n-th call on files under a folder, for tests/faults.py: preloaded into Python and controlled by `inject`.

   Calls on an open file count by the path with which it was opened, in all threads. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static atomic_int count, fail_from, fail_until, error;
static char failed[64];

/* Fail calls number `from` to `until` with `code`; 0 and 0 only count calls. */
void inject(const char *under, int from, int until, int code) {
  snprintf(folder, sizeof folder, "%s", under);
  atomic_store(&count, 0);
  atomic_store(&fail_from, from);
  atomic_store(&fail_until, until);
  atomic_store(&error, code);
  failed[0] = 0;
}

int calls(void) { return atomic_load(&count); }
const char *failed_call(void) { return failed; }

/* A separate process is configured by its environment. */
__attribute__((constructor)) static void from_environment(void) {
  const char *under = getenv("FAULTS_UNDER"), *at = getenv("FAULTS_AT"), *code = getenv("FAULTS_ERROR");
  if (under && at && code) inject(under, atoi(at), atoi(at), atoi(code));
}

static int is_inside(const char *path) {
  size_t length = strlen(folder);
  return length && path && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int can_happen(int code, int writes) { return code != ENOSPC || writes; }

static int fails(const char *name, const char *path, int writes) {
  if (!is_inside(path) || !can_happen(atomic_load(&error), writes)) return 0;
  int number = atomic_fetch_add(&count, 1) + 1;
  if (number < atomic_load(&fail_from) || number > atomic_load(&fail_until)) return 0;
  if (!failed[0]) snprintf(failed, sizeof failed, "%s %.40s", name, path + strlen(folder));
  errno = atomic_load(&error);
  return 1;
}

static const char *path_at(int at, const char *path, char *whole) {
  if (!path || path[0] == '/' || at == AT_FDCWD) return path;
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", at);
  ssize_t length = readlink(link, whole, PATH_MAX - 1);
  if (length < 0) return path;
  snprintf(whole + length, PATH_MAX - length, "/%s", path);
  return whole;
}

static int fd_fails(const char *name, int number, int writes) {
  char link[64], path[PATH_MAX];
  if (!folder[0]) return 0;
  int before = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", number);
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = before;
  if (length < 0) return 0;
  path[length] = 0;
  return fails(name, path, writes);
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define OF_PATH(result, name, parameters, arguments, path, writes) \
  result name parameters { \
    REAL(name); \
    return fails(#name, path, writes) ? (result)-1 : real arguments; \
  }
#define OF_FILE(result, name, parameters, arguments, file, writes) \
  result name parameters { \
    REAL(name); \
    return fd_fails(#name, file, writes) ? (result)-1 : real arguments; \
  }
#define OF_AT(result, name, parameters, arguments, at, path, writes) \
  result name parameters { \
    char whole[PATH_MAX]; \
    REAL(name); \
    return fails(#name, path_at(at, path, whole), writes) ? (result)-1 : real arguments; \
  }

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    va_list rest; \
    va_start(rest, flags); \
    int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, int) : 0; \
    va_end(rest); \
    REAL(name); \
    return fails(#name, path, flags & O_CREAT) ? -1 : real(path, flags, mode); \
  }
#define OPENAT(name) \
  int name(int at, const char *path, int flags, ...) { \
    va_list rest; \
    char whole[PATH_MAX]; \
    va_start(rest, flags); \
    int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, int) : 0; \
    va_end(rest); \
    REAL(name); \
    return fails(#name, path_at(at, path, whole), flags & O_CREAT) ? -1 : real(at, path, flags, mode); \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
OF_FILE(ssize_t, read, (int file, void *data, size_t size), (file, data, size), file, 0)
OF_FILE(ssize_t, pread, (int file, void *data, size_t size, off_t at), (file, data, size, at), file, 0)
OF_FILE(ssize_t, pread64, (int file, void *data, size_t size, off64_t at), (file, data, size, at), file, 0)
OF_FILE(ssize_t, write, (int file, const void *data, size_t size), (file, data, size), file, 1)
OF_FILE(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at), file, 1)
OF_FILE(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at), file, 1)
OF_FILE(ssize_t, writev, (int file, const struct iovec *parts, int size), (file, parts, size), file, 1)
OF_FILE(int, fsync, (int file), (file), file, 1)
OF_FILE(int, fdatasync, (int file), (file), file, 1)
OF_FILE(int, ftruncate, (int file, off_t size), (file, size), file, 1)
OF_FILE(int, ftruncate64, (int file, off64_t size), (file, size), file, 1)
OF_FILE(int, fstat, (int file, struct stat *found), (file, found), file, 0)
OF_FILE(int, fstat64, (int file, struct stat64 *found), (file, found), file, 0)
OF_FILE(int, flock, (int file, int what), (file, what), file, 0)

OF_PATH(int, stat, (const char *path, struct stat *found), (path, found), path, 0)
OF_PATH(int, stat64, (const char *path, struct stat64 *found), (path, found), path, 0)
OF_PATH(int, lstat, (const char *path, struct stat *found), (path, found), path, 0)
OF_PATH(int, lstat64, (const char *path, struct stat64 *found), (path, found), path, 0)
OF_PATH(int, mkdir, (const char *path, mode_t mode), (path, mode), path, 1)
OF_PATH(int, unlink, (const char *path), (path), path, 0)
OF_PATH(int, rmdir, (const char *path), (path), path, 0)
OF_PATH(int, rename, (const char *from, const char *to), (from, to), to, 1)
OF_AT(int, fstatat, (int at, const char *path, struct stat *found, int how), (at, path, found, how), at, path, 0)
OF_AT(int, fstatat64, (int at, const char *path, struct stat64 *found, int how), (at, path, found, how), at, path, 0)
OF_AT(int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), at, path, 1)
OF_AT(int, unlinkat, (int at, const char *path, int how), (at, path, how), at, path, 0)
OF_AT(int, renameat, (int at, const char *from, int into, const char *to), (at, from, into, to), into, to, 1)

DIR *opendir(const char *path) {
  REAL(opendir);
  return fails("opendir", path, 0) ? NULL : real(path);
}

DIR *fdopendir(int file) {
  REAL(fdopendir);
  return fd_fails("fdopendir", file, 0) ? NULL : real(file);
}

FILE *fopen(const char *path, const char *mode) {
  REAL(fopen);
  return fails("fopen", path, mode[0] != 'r') ? NULL : real(path, mode);
}

FILE *fopen64(const char *path, const char *mode) {
  REAL(fopen64);
  return fails("fopen", path, mode[0] != 'r') ? NULL : real(path, mode);
}
