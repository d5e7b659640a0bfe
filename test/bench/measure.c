// Runs one command and tells what it and everything it started cost, from wait4: written to descriptor 3 as a line of JSON.
//   measure [-c CPU] [-s SECONDS] -- COMMAND ARGS...
// -c pins the command to one CPU; -s sends it SIGTERM after so many seconds, and SIGKILL to its group ten seconds later.
//
// In C because of the peak RSS: Linux carries the peak of the address space that a process leaves with exec over into its own
// (and a vfork shares that of the parent), so a command started by Node would be charged with Node's memory. This program is
// smaller than any that it measures.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

static void fail(const char *what) {
  fprintf(stderr, "measure: %s: %s\n", what, strerror(errno));
  exit(125);
}

// Bytes that the process itself read, from files and sockets, while it waits to be reaped; -1 where the kernel does not tell.
static long long bytes_read(pid_t pid) {
  char path[64];
  long long bytes = -1;
  snprintf(path, sizeof path, "/proc/%d/io", (int)pid);
  FILE *file = fopen(path, "r");
  if (file == NULL) return -1;
  if (fscanf(file, "rchar: %lld", &bytes) != 1) bytes = -1;
  fclose(file);
  return bytes;
}

int main(int argc, char **argv) {
  int cpu = -1, option;
  double stop_after = 0;
  while ((option = getopt(argc, argv, "+c:s:")) != -1) {
    if (option == 'c') cpu = atoi(optarg);
    else if (option == 's') stop_after = atof(optarg);
    else return 125;
  }
  if (optind >= argc) {
    fprintf(stderr, "measure: no command\n");
    return 125;
  }
  sigset_t child_ended, before;
  sigemptyset(&child_ended);
  sigaddset(&child_ended, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child_ended, &before);
  // What the command leaves behind is ours to reap, so that it is counted and gone.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) fail("sched_setaffinity");
  }
  const double start = now();
  const pid_t pid = fork();
  if (pid < 0) fail("fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(3);
    execvp(argv[optind], argv + optind);
    fprintf(stderr, "measure: %s: %s\n", argv[optind], strerror(errno));
    _exit(127);
  }
  siginfo_t info;
  int stopped = 0;
  for (;;) {
    info.si_pid = 0;
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | (stop_after > 0 ? WNOHANG : 0)) != 0) fail("waitid");
    if (info.si_pid == pid) break;
    const double limit = stopped == 0 ? stop_after : stop_after + 10;
    const double left = limit - (now() - start);
    if (left <= 0) {
      if (stopped == 0) kill(pid, SIGTERM);
      else kill(-pid, SIGKILL);
      stopped += 1;
      continue;
    }
    const struct timespec wait = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
    sigtimedwait(&child_ended, NULL, &wait);
  }
  const double end = now();
  const long long read = bytes_read(pid);
  int status = 0, other;
  struct rusage usage, more;
  if (wait4(pid, &status, 0, &usage) != pid) fail("wait4");
  double user = seconds(usage.ru_utime), system = seconds(usage.ru_stime);
  long rss = usage.ru_maxrss;
  kill(-pid, SIGKILL);
  while (wait4(-1, &other, 0, &more) > 0) {
    user += seconds(more.ru_utime);
    system += seconds(more.ru_stime);
    if (more.ru_maxrss > rss) rss = more.ru_maxrss;
  }
  dprintf(3,
          "{\"wallSeconds\":%.6f,\"userSeconds\":%.6f,\"systemSeconds\":%.6f,\"peakRssBytes\":%lld,\"readBytes\":%lld,"
          "\"exitCode\":%d,\"signal\":%d,\"isStopped\":%s}\n",
          end - start, user, system, (long long)rss * 1024, read, WIFEXITED(status) ? WEXITSTATUS(status) : -1,
          WIFSIGNALED(status) ? WTERMSIG(status) : 0, stopped > 0 ? "true" : "false");
  return 0;
}
