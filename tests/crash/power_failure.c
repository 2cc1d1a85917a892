/* A disk that loses whatever was not synced, and a power failure at a chosen sync.
 *
 * Loaded with LD_PRELOAD into the process under test, it takes the place of fsync and fdatasync. After each real sync
 * of a file in the folder POWER_FAILURE_DISK it copies the file, as it is then, into the folder POWER_FAILURE_SHADOW:
 *
 *   disk/   what a disk would have after a power failure that loses all that was not synced
 *   new/    synced files whose names are not on the disk yet: that takes a sync of the folder they are in
 *   log     the names of what was synced, "." for the folder itself, one a line, in order
 *
 * A file that was truncated since keeps its synced content there, and one that was removed stays there until the folder
 * is synced. Copies replace each other whole, so a process that is killed at any moment leaves the state of some sync.
 *
 * POWER_FAILURE_AT, if set, is "before NAME N" or "after NAME N": the process kills itself just before the N-th sync of
 * the file of that name ("*": of anything), or just after it, before the caller hears of it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *disk, *shadow;
static char place[8], wanted[NAME_MAX + 1];
static long at, passed;

/* A simulation that does not work must not look like a disk that keeps everything, or nothing. */
static void give_up(const char *what) {
    fprintf(stderr, "power_failure.c cannot %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void) {
    disk = getenv("POWER_FAILURE_DISK");
    shadow = getenv("POWER_FAILURE_SHADOW");
    const char *moment = getenv("POWER_FAILURE_AT");
    if (moment != NULL && *moment != '\0' && sscanf(moment, "%7s %255s %ld", place, wanted, &at) != 3)
        give_up("read POWER_FAILURE_AT");
}

static void path_in(char *path, const char *folder, const char *name) {
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX)
        give_up("use so long a path");
}

static void path_in_shadow(char *path, const char *part, const char *name) {
    char folder[PATH_MAX];
    path_in(folder, shadow, part);
    path_in(path, folder, name);
}

/* Return the name that the open file has in the folder, "." for the folder itself, NULL for all that does not count. */
static const char *name_in_disk(int file, char *path) {
    char link[64];
    struct stat opened, found;
    size_t length = disk == NULL ? 0 : strlen(disk);
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = length == 0 ? -1 : readlink(link, path, PATH_MAX - 1);
    if (size < 0)
        return NULL;
    path[size] = '\0';
    if (strcmp(path, disk) == 0)
        return ".";
    if (strncmp(path, disk, length) != 0 || path[length] != '/' || strchr(path + length + 1, '/') != NULL)
        return NULL;
    if (fstat(file, &opened) != 0 || stat(path, &found) != 0 || opened.st_ino != found.st_ino)
        return NULL; /* removed already: no sync can bring it back */
    return path + length + 1;
}

static void copy(const char *from, const char *to) {
    static char buffer[1 << 18];
    int source = open(from, O_RDONLY | O_CLOEXEC), target = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    ssize_t size = 0;
    if (source < 0 || target < 0)
        give_up("open a file to copy");
    while ((size = read(source, buffer, sizeof buffer)) > 0)
        if (write(target, buffer, (size_t)size) != size)
            give_up("write a copy");
    if (size < 0)
        give_up("read a file to copy");
    close(source);
    close(target);
}

static void keep_file(const char *path, const char *name) {
    char copied[PATH_MAX], kept[PATH_MAX];
    path_in(copied, shadow, "copy");
    copy(path, copied);
    path_in_shadow(kept, "disk", name);
    if (access(kept, F_OK) != 0)
        path_in_shadow(kept, "new", name);
    if (rename(copied, kept) != 0)
        give_up("keep a copy");
}

/* Put a name on the disk; of a file that was never synced nothing else is there. */
static void keep_name(const char *part, const char *name) {
    char now[PATH_MAX], kept[PATH_MAX];
    path_in_shadow(now, "new", name);
    path_in_shadow(kept, part, name);
    if (access(kept, F_OK) == 0 || rename(now, kept) == 0)
        return;
    int file = open(kept, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0)
        give_up("keep a name");
    close(file);
}

static void drop_name_if_gone(const char *part, const char *name) {
    char path[PATH_MAX], kept[PATH_MAX];
    path_in(path, disk, name);
    path_in_shadow(kept, part, name);
    if (access(path, F_OK) != 0 && unlink(kept) != 0)
        give_up("drop a name");
}

/* Call for the name of each file in the folder. */
static void each(const char *folder, const char *part, void (*call)(const char *part, const char *name)) {
    struct dirent *entry;
    struct stat found;
    DIR *names = opendir(folder);
    if (names == NULL)
        give_up("list a folder");
    while ((entry = readdir(names)) != NULL)
        if (fstatat(dirfd(names), entry->d_name, &found, 0) == 0 && S_ISREG(found.st_mode))
            call(part, entry->d_name);
    closedir(names);
}

static void keep_names(void) {
    char kept[PATH_MAX], fresh[PATH_MAX];
    path_in(kept, shadow, "disk");
    path_in(fresh, shadow, "new");
    each(disk, "disk", keep_name);
    each(kept, "disk", drop_name_if_gone);
    each(fresh, "new", drop_name_if_gone);
}

static void note(const char *name) {
    char path[PATH_MAX], line[NAME_MAX + 2];
    path_in(path, shadow, "log");
    int size = snprintf(line, sizeof line, "%s\n", name);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log < 0 || write(log, line, (size_t)size) != size)
        give_up("write the log");
    close(log);
}

static void fail_if(const char *moment) {
    if (passed != at || strcmp(place, moment) != 0)
        return;
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static int synced(int file, long call) {
    char path[PATH_MAX];
    pthread_mutex_lock(&mutex);
    const char *name = name_in_disk(file, path);
    int counts = name != NULL && (strcmp(wanted, "*") == 0 || strcmp(wanted, name) == 0);
    passed += counts;
    if (counts)
        fail_if("before");
    int result = (int)syscall(call, file), error = errno;
    if (result == 0 && name != NULL) {
        if (strcmp(name, ".") == 0)
            keep_names();
        else
            keep_file(path, name);
        note(name);
        if (counts)
            fail_if("after");
    }
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}

int fsync(int file) { return synced(file, SYS_fsync); }

int fdatasync(int file) { return synced(file, SYS_fdatasync); }
