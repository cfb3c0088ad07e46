#include "pretrained/isolation/lockdown.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/restrict.h"

namespace pretrained::isolation {
namespace fs = std::filesystem;
namespace {

// What oneDNN and the thread pool look up to choose their kernels, and LibTorch's seeds.
constexpr const char* kReadable[] = {"/proc/cpuinfo", "/sys/devices/system/cpu",
                                     "/sys/devices/system/node", "/dev/urandom"};

constexpr int kAllowed[] = {
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

CallFilter call_filter() {
  CallFilter filter;
  filter.allow(kAllowed);
  // Threads yes, processes no. clone3 hides its flags in memory: glibc takes clone where it lacks.
  constexpr int kHidden[] = {SYS_clone3};
  filter.refuse(kHidden, ENOSYS);
  constexpr uint64_t kThread[] = {CLONE_THREAD | CLONE_VM};
  filter.allow_where(SYS_clone, 0, kThread[0], kThread);
  // abort() signals itself.
  const uint64_t itself[] = {uint64_t(getpid())};
  filter.allow_where(SYS_tgkill, 0, UINT32_MAX, itself);
  // Looking at descriptors. F_SETOWN would let the kernel send signals for it.
  constexpr uint64_t kLooking[] = {F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC, F_GET_SEALS};
  filter.allow_where(SYS_fcntl, 1, UINT32_MAX, kLooking);
  // Reading limits, not setting them.
  constexpr uint64_t kNothing[] = {0};
  filter.allow_where(SYS_prlimit64, 2, UINT64_MAX, kNothing);
  filter.refuse_others();
  return filter;
}

void limit(int resource, rlim_t value) {
  rlimit both{value, value};
  if (setrlimit(__rlimit_resource(resource), &both) != 0) throw_errno("limits", errno);
}

void put(const char* file, const std::string& text) {
  FileDescriptor opened(open(file, O_WRONLY | O_CLOEXEC));
  if (opened.get() < 0 || write(opened.get(), text.data(), text.size()) != ssize_t(text.size()))
    throw_errno(file, errno);
}

void bind(const fs::path& from, const fs::path& to) {
  std::error_code missing;
  if (!fs::exists(from, missing)) return;
  bool folder = fs::is_directory(from);
  fs::create_directories(folder ? to : to.parent_path());
  if (!folder) FileDescriptor(open(to.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  if (mount(from.c_str(), to.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
    throw_errno(from.string(), errno);
}

// Landlock lets nobody open a file, but whether there is one, and its size, can be asked. So there
// are none: the root becomes a folder with what can be read and the descriptors by number, through
// which the model's library is opened. Makes a user namespace; where the system does not let us,
// the question stays possible.
void hide_files() try {
  std::string user = std::to_string(geteuid()), group = std::to_string(getegid());
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return;
  put("/proc/self/setgroups", "deny");
  put("/proc/self/uid_map", user + " " + user + " 1");
  put("/proc/self/gid_map", group + " " + group + " 1");
  const fs::path root = "/etc";  // a folder that is everywhere, and not needed any more
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("none", root.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=64k") != 0)
    return;
  for (auto* path : kReadable) bind(path, root / fs::path(path).relative_path());
  bind("/proc/self/fd", root / "proc/self/fd");
  if (chdir(root.c_str()) != 0 || chroot(".") != 0) return;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  if (syscall(SYS_capset, &header, none) != 0) throw_errno("capabilities", errno);
} catch (const IoError&) {
} catch (const NotFoundError&) {
} catch (const fs::filesystem_error&) {
}

void forbid() {
  FileRules files;
  std::error_code missing;
  for (auto* path : kReadable)
    if (fs::exists(path, missing)) files.allow(path, FileRules::Access::read);
  CallFilter calls = call_filter();
  const char* guard = "";
  if (int error = restrict_self(make_restriction(files, calls), &guard)) throw_errno(guard, error);
}

}  // namespace

void lock_down(uint64_t memory_bytes) try {
  // Landlock would not hold for another thread.
  auto threads = fs::directory_iterator("/proc/self/task");
  if (std::distance(begin(threads), end(threads)) != 1) throw Error("it has several threads");
  // Where memory runs out, this process is the one to go.
  if (access("/proc/self/oom_score_adj", W_OK) == 0) put("/proc/self/oom_score_adj", "1000");
  hide_files();
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_NOFILE, 64);
  uint64_t all = uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE));
  limit(RLIMIT_AS, memory_bytes > 0 ? memory_bytes : all);
  forbid();
} catch (const Error& error) {
  throw Error(std::string("isolation: this system cannot confine a process (") + error.what() +
              "): a model that is not trusted must not run here");
}

}  // namespace pretrained::isolation
