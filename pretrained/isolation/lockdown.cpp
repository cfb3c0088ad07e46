#include "pretrained/isolation/lockdown.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"

namespace pretrained::isolation {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "isolation: no system call table for this processor"
#endif

[[noreturn]] void lacks(const std::string& guard) {
  throw Error("isolation: this system cannot " + guard + " (" + std::strerror(errno) +
              "): a model that is not trusted must not run here");
}

// Newer kernels' names, which the headers of Debian 12 do not have.
constexpr uint64_t kAccessTruncate = 1 << 14, kAccessIoctl = 1 << 15;
constexpr uint64_t kScopes = 3;  // abstract Unix sockets, signals
struct Ruleset {
  uint64_t files, network, scoped;
};

void forbid_files() {
  long version = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 1) lacks("take the file system away (Landlock)");
  Ruleset rules{LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1, 0, 0};
  if (version >= 2) rules.files |= LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3) rules.files |= kAccessTruncate;
  if (version >= 4) rules.network = 3;  // bind, connect
  if (version >= 5) rules.files |= kAccessIoctl;
  if (version >= 6) rules.scoped = kScopes;
  size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
  FileDescriptor ruleset(int(syscall(SYS_landlock_create_ruleset, &rules, size, 0)));
  if (ruleset.get() < 0) lacks("take the file system away (Landlock)");
  // What oneDNN and the thread pool look up to choose their kernels.
  for (const char* path :
       {"/proc/cpuinfo", "/sys/devices/system/cpu", "/sys/devices/system/node"}) {
    FileDescriptor place(open(path, O_PATH | O_CLOEXEC));
    if (place.get() < 0) continue;
    landlock_path_beneath_attr allowed{};
    allowed.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE;
    if (path[1] == 's') allowed.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR;
    allowed.parent_fd = place.get();
    if (syscall(SYS_landlock_add_rule, ruleset.get(), LANDLOCK_RULE_PATH_BENEATH, &allowed, 0) != 0)
      lacks("take the file system away (Landlock)");
  }
  if (syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0)
    lacks("take the file system away (Landlock)");
}

const std::vector<int> kAllowed = {
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_close,
    SYS_fstat,
    SYS_lseek,
    SYS_newfstatat,
    SYS_openat,
    SYS_getdents64,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_ppoll,
    SYS_mmap,
    SYS_munmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    SYS_membarrier,
    SYS_futex,
    SYS_set_robust_list,
    SYS_rseq,
    SYS_set_tid_address,
    SYS_exit,
    SYS_exit_group,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_times,
    SYS_getrusage,
    SYS_getpid,
    SYS_gettid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getcpu,
    SYS_uname,
    SYS_sysinfo,
    SYS_getrandom,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_restart_syscall,
    SYS_sigaltstack,
#if defined(__x86_64__)
    SYS_poll,
    SYS_time,
#endif
};

// The low half of an argument; its high half must be looked at too where it matters.
constexpr uint32_t argument(int index, bool high = false) {
  return offsetof(seccomp_data, args) + uint32_t(index) * 8 + (high ? 4 : 0);
}

class Filter {
 public:
  Filter() {
    load(offsetof(seccomp_data, arch));
    // Another architecture's table, or x32's: nothing of ours.
    add(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0);
    give(SECCOMP_RET_KILL_PROCESS);
    load(offsetof(seccomp_data, nr));
    for (int call : kAllowed) if_call(call, {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}});
    // Threads yes, processes no. clone3 hides its flags in memory: glibc takes clone where it
    // lacks.
    if_call(SYS_clone3, {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOSYS}});
    if_call(SYS_clone, {{BPF_LD | BPF_W | BPF_ABS, 0, 0, argument(0)},
                        {BPF_ALU | BPF_AND | BPF_K, 0, 0, CLONE_THREAD | CLONE_VM},
                        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, CLONE_THREAD | CLONE_VM},
                        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
                        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM}});
    // abort() signals itself.
    if_call(SYS_tgkill, {{BPF_LD | BPF_W | BPF_ABS, 0, 0, argument(0)},
                         {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, uint32_t(getpid())},
                         {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
                         {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM}});
    // Looking at descriptors. F_SETOWN would let the kernel send signals for it.
    for (uint32_t command : {F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC, F_GET_SEALS})
      if_call(SYS_fcntl, {{BPF_LD | BPF_W | BPF_ABS, 0, 0, argument(1)},
                          {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, command},
                          {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
                          {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)}});
    // Reading limits, not setting them.
    if_call(SYS_prlimit64, {{BPF_LD | BPF_W | BPF_ABS, 0, 0, argument(2)},
                            {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0},
                            {BPF_LD | BPF_W | BPF_ABS, 0, 0, argument(2, true)},
                            {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0},
                            {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
                            {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM}});
    give(SECCOMP_RET_ERRNO | EPERM);
  }

  void install() {
    sock_fprog program{static_cast<unsigned short>(code_.size()), code_.data()};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
      lacks("take system calls away (seccomp)");
  }

 private:
  void add(uint16_t code, uint32_t value, uint8_t yes = 0, uint8_t no = 0) {
    code_.push_back({code, yes, no, value});
  }
  void load(uint32_t offset) { add(BPF_LD | BPF_W | BPF_ABS, offset); }
  void give(uint32_t verdict) { add(BPF_RET | BPF_K, verdict); }
  void if_call(int call, const std::vector<sock_filter>& then) {
    add(BPF_JMP | BPF_JEQ | BPF_K, uint32_t(call), 0, uint8_t(then.size()));
    code_.insert(code_.end(), then.begin(), then.end());
  }
  std::vector<sock_filter> code_;
};

void limit(int resource, rlim_t value) {
  rlimit both{value, value};
  if (setrlimit(__rlimit_resource(resource), &both) != 0) lacks("limit what a process may use");
}

}  // namespace

void lock_down(uint64_t memory_bytes) {
  // Where memory runs out, this process is the one to go.
  if (FileDescriptor score(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
      score.get() >= 0)
    if (write(score.get(), "1000", 4) < 0) lacks("be the first to go when memory runs out");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_NOFILE, 64);
  uint64_t all = uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE));
  limit(RLIMIT_AS, memory_bytes > 0 ? memory_bytes : all);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) lacks("give up new privileges");
  forbid_files();
  Filter().install();
}

}  // namespace pretrained::isolation
