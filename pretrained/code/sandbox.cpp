#include "pretrained/code/sandbox.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <mutex>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"

namespace pretrained::code {
namespace fs = std::filesystem;
namespace {

constexpr rlim_t kMaxFile = 1 << 30, kOpenFiles = 256, kProcesses = 256;

// Debian 12's header ends at the second version of Landlock.
constexpr uint64_t kTruncate = 1 << 14, kDeviceControl = 1 << 15;
constexpr uint64_t kReadFile = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE;
constexpr uint64_t kReadFolder = kReadFile | LANDLOCK_ACCESS_FS_READ_DIR;

// What every compiler needs, whichever it is. Whole /usr would show /usr/src, /usr/local, …
std::vector<fs::path> system_toolchain() {
  std::vector<fs::path> paths;
  for (auto* path : {"/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec",
                     "/usr/include", "/usr/local/include", "/bin", "/lib", "/lib32", "/lib64",
                     "/nix/store", "/gnu/store", "/etc/ld.so.cache", "/etc/alternatives"}) {
    std::error_code error;
    if (fs::exists(path, error)) paths.push_back(path);
  }
  return paths;
}

std::vector<std::string> bubblewrap(const fs::path& program, const Job& job) {
  std::vector<std::string> argv = {program,         "--unshare-all", "--die-with-parent",
                                   "--new-session", "--cap-drop",    "ALL"};
  auto add = [&](std::initializer_list<std::string> words) {
    argv.insert(argv.end(), words.begin(), words.end());
  };
  for (auto& path : system_toolchain()) {
    if (fs::is_symlink(path) && path.parent_path() == "/")
      add({"--symlink", fs::read_symlink(path), path});
    else
      add({"--ro-bind", path, path});
  }
  for (auto& path : job.readable) add({"--ro-bind", path, path});
  add({"--dev-bind", "/dev/null", "/dev/null", "--bind", job.folder, job.folder, "--remount-ro",
       "/", "--chdir", job.directory, "--"});
  argv.insert(argv.end(), job.argv.begin(), job.argv.end());
  return argv;
}

int landlock_version() {
  return int(syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION));
}

void allow(const FileDescriptor& rules, const fs::path& path, uint64_t access) {
  FileDescriptor file(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (file.get() < 0) throw_errno(path.string(), errno);
  landlock_path_beneath_attr rule{access, file.get()};
  if (syscall(SYS_landlock_add_rule, rules.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
    throw_errno(path.string() + ": Landlock", errno);
}

FileDescriptor landlock_rules(const Job& job) {
  int version = landlock_version();
  uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
  if (version >= 2) all |= LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3) all |= kTruncate;
  if (version >= 5) all |= kDeviceControl;
  landlock_ruleset_attr attributes{all};
  FileDescriptor rules(
      int(syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
  if (rules.get() < 0) throw_errno("Landlock", errno);
  std::vector<fs::path> readable = system_toolchain();
  readable.insert(readable.end(), job.readable.begin(), job.readable.end());
  for (auto& path : readable) allow(rules, path, fs::is_directory(path) ? kReadFolder : kReadFile);
  allow(rules, "/dev/null", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE);
  constexpr uint64_t no_file = LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                               LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO;
  allow(rules, job.folder, all & ~no_file);
  return rules;
}

// No network, no other process, no leaving the process group that is killed at the deadline, and
// none of what Landlock does not see: modes, owners and times of files.
constexpr int kForbidden[] = {
    SYS_socket,
    SYS_socketpair,
    SYS_connect,
    SYS_bind,
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    SYS_sendto,
    SYS_sendmsg,
    SYS_sendmmsg,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kill,
    SYS_tkill,
    SYS_tgkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_pidfd_send_signal,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_setsid,
    SYS_setpgid,
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_open_by_handle_at,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_truncate,
    SYS_fchmodat,
    SYS_fchownat,
    SYS_utimensat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_removexattr,
    SYS_lremovexattr,
    SYS_mknodat,
    SYS_kexec_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,

    SYS_sched_setaffinity,
    SYS_shmget,
    SYS_msgget,
    SYS_semget,
#ifdef __x86_64__
    SYS_chmod,
    SYS_chown,
    SYS_lchown,
    SYS_utime,
    SYS_utimes,
    SYS_futimesat,
    SYS_mknod,
#endif
};
#if defined(__x86_64__)
constexpr uint32_t kMachine = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kMachine = AUDIT_ARCH_AARCH64;
#else
#error "no system call filter for this machine"
#endif

std::vector<sock_filter> system_call_filter() {
  std::vector<sock_filter> filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kMachine, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      // The second set of numbers that x86 has.
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
  for (int number : kForbidden) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, uint32_t(number), 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  }
  // Its own limits only: getrlimit is made of it.
  filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 3));
  filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)));
  filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0));
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  return filter;
}

// All threads that run here, which is at least what this user has: RLIMIT_NPROC counts those too.
rlim_t running_threads() {
  std::string load = read_file("/proc/loadavg");
  size_t slash = load.find('/');
  return slash == load.npos ? 0 : rlim_t(std::strtoul(load.c_str() + slash + 1, nullptr, 10));
}

struct Entrance {
  rlim_t memory, processes;
  int rules = -1;  // of Landlock
  sock_fprog filter = {};
};

int enter(const void* context) {
  auto& entrance = *static_cast<const Entrance*>(context);
  const std::pair<__rlimit_resource, rlim_t> limits[] = {{RLIMIT_AS, entrance.memory},
                                                         {RLIMIT_FSIZE, kMaxFile},
                                                         {RLIMIT_NOFILE, kOpenFiles},
                                                         {RLIMIT_NPROC, entrance.processes}};
  for (auto [resource, most] : limits) {
    rlimit old, wanted{most, most};
    if (getrlimit(resource, &old) == 0 && old.rlim_max < most)
      wanted.rlim_cur = wanted.rlim_max = old.rlim_max;
    if (setrlimit(resource, &wanted) != 0) return errno;
  }
  if (entrance.rules < 0) return 0;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      syscall(SYS_landlock_restrict_self, entrance.rules, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &entrance.filter) != 0)
    return errno;
  return 0;
}

// Empty where bubblewrap works here, else why not.
std::string bubblewrap_fault() {
  fs::path program = find_program("bwrap");
  if (program.empty()) return "bubblewrap is not installed (Debian: apt-get install bubblewrap)";
  static std::mutex mutex;
  static std::map<fs::path, bool> works;  // asked once: it starts a process
  std::lock_guard guard(mutex);
  auto [known, added] = works.try_emplace(program);
  if (added)
    known->second = run_process({program, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL",
                                 "--ro-bind", "/", "/", "/bin/sh", "-c", "exit 0"})
                        .exit_code == 0;
  return known->second ? "" : "bubblewrap may not make user namespaces here";
}

std::string landlock_fault() { return landlock_version() > 0 ? "" : "this kernel has no Landlock"; }

bool unsafe_allowed() {
  const char* value = std::getenv("PRETRAINED_UNSAFE_COMPILE");
  return value && std::string_view(value) == "1";
}

}  // namespace

Sandbox choose_sandbox(const Toolchain& toolchain) {
  std::string fault;
  if (toolchain.sandbox == Sandbox::automatic || toolchain.sandbox == Sandbox::bubblewrap) {
    fault = bubblewrap_fault();
    if (fault.empty()) return Sandbox::bubblewrap;
  }
  if (toolchain.sandbox == Sandbox::automatic || toolchain.sandbox == Sandbox::landlock) {
    std::string second = landlock_fault();
    if (second.empty()) return Sandbox::landlock;
    fault += (fault.empty() ? "" : ", and ") + second;
  }
  if (fault.empty()) fault = "the sandbox is switched off";
  if (toolchain.sandbox != Sandbox::none && !unsafe_allowed())
    throw CompileError("model code is compiled in a sandbox only, and there is none: " + fault +
                           "; PRETRAINED_UNSAFE_COMPILE=1 compiles without",
                       "", "");
  if (toolchain.notice) toolchain.notice("compiling WITHOUT a sandbox: " + fault);
  return Sandbox::none;
}

ProcessResult run_sandboxed(Sandbox sandbox, const Job& job) {
  std::string bin = fs::path(job.argv.at(0)).parent_path();
  Entrance entrance{job.memory_limit, running_threads() + kProcesses};
  Confinement confinement;
  // HOME, tokens and LD_* stay here.
  confinement.environment = {"PATH=" + bin + ":/usr/bin:/bin", "LANG=C",
                             "TMPDIR=" + job.folder.string(), "CCACHE_DISABLE=1"};
  confinement.enter = enter;
  confinement.context = &entrance;
  if (sandbox == Sandbox::bubblewrap)
    return run_process(bubblewrap(find_program("bwrap"), job), "/", job.time_limit, confinement);
  FileDescriptor rules;
  std::vector<sock_filter> filter;
  if (sandbox == Sandbox::landlock) {
    rules = landlock_rules(job);
    filter = system_call_filter();
    entrance.rules = rules.get();
    entrance.filter = {static_cast<unsigned short>(filter.size()), filter.data()};
  }
  return run_process(job.argv, job.directory, job.time_limit, confinement);
}

}  // namespace pretrained::code
