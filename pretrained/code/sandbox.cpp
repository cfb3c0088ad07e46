#include "pretrained/code/sandbox.h"

#include <sys/resource.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/restrict.h"

namespace pretrained::code {
namespace fs = std::filesystem;
namespace {

constexpr rlim_t kMaxFile = 1 << 30, kOpenFiles = 256, kProcesses = 256;

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

FileRules file_rules(const Job& job) {
  FileRules rules;
  for (auto& path : system_toolchain()) rules.allow(path, FileRules::Access::execute);
  for (auto& path : job.readable) rules.allow(path, FileRules::Access::execute);
  rules.allow("/dev/null", FileRules::Access::read_write);
  rules.allow(job.folder, FileRules::Access::all_regular);
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

CallFilter call_filter() {
  CallFilter filter;
  filter.refuse(kForbidden, EPERM);
  // Its own limits only: getrlimit is made of it.
  constexpr uint64_t kItself[] = {0};
  filter.allow_where(SYS_prlimit64, 0, UINT32_MAX, kItself);
  filter.allow_others();
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
  std::optional<Restriction> restriction;
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
  return entrance.restriction ? restrict_self(*entrance.restriction) : 0;
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
  Entrance entrance{job.memory_limit, running_threads() + kProcesses, {}};
  Confinement confinement;
  // HOME, tokens and LD_* stay here.
  confinement.environment = {"PATH=" + bin + ":/usr/bin:/bin", "LANG=C",
                             "TMPDIR=" + job.folder.string(), "CCACHE_DISABLE=1"};
  confinement.enter = enter;
  confinement.context = &entrance;
  if (sandbox == Sandbox::bubblewrap)
    return run_process(bubblewrap(find_program("bwrap"), job), "/", job.time_limit, confinement);
  if (sandbox != Sandbox::landlock)
    return run_process(job.argv, job.directory, job.time_limit, confinement);
  FileRules files = file_rules(job);
  CallFilter calls = call_filter();
  entrance.restriction = make_restriction(files, calls);
  return run_process(job.argv, job.directory, job.time_limit, confinement);
}

}  // namespace pretrained::code
