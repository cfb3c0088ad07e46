#pragma once
// Runs work in a child process again and again, killed (SIGKILL) before its first system call that
// can change files, then before its second, and so on, until it ends by itself.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

namespace pretrained {

inline bool changes_files(uint64_t call) {
  constexpr long kCalls[] = {SYS_rename, SYS_renameat, SYS_renameat2, SYS_unlink, SYS_unlinkat,
                             SYS_mkdir,  SYS_mkdirat,  SYS_rmdir,     SYS_fsync,  SYS_write};
  return std::find(std::begin(kCalls), std::end(kCalls), long(call)) != std::end(kCalls);
}

// Whether the child was killed; false: it made fewer calls and ended.
inline bool run_killed(int calls, const std::function<void()>& work) {
  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  for (;;) {
    ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    waitpid(child, &status, 0);
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      EXPECT_EQ(status, 0);
      return false;
    }
    __ptrace_syscall_info info{};
    ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info);
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || !changes_files(info.entry.nr)) continue;
    if (calls-- > 0) continue;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return true;
  }
}

// `prepare` makes the state before, `check` looks at what a kill has left. Returns how many kills
// there were.
inline int kill_everywhere(const std::function<void()>& prepare, const std::function<void()>& work,
                           const std::function<void()>& check) {
  for (int calls = 0;; ++calls) {
    prepare();
    bool killed = run_killed(calls, work);
    check();
    if (!killed || testing::Test::HasFailure()) return calls;
  }
}

}  // namespace pretrained
