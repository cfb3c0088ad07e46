#include "pretrained/base/restrict.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "pretrained/base/error.h"

namespace pretrained {
namespace fs = std::filesystem;
namespace {

#if defined(__x86_64__)
constexpr uint32_t kProcessor = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kProcessor = AUDIT_ARCH_AARCH64;
#else
#error "no table of system calls for this processor"
#endif

// Debian 12's header ends at the second version of Landlock.
constexpr uint64_t kTruncate = 1 << 14, kDeviceControl = 1 << 15;
constexpr uint64_t kBindAndConnect = 3, kAbstractSocketsAndSignals = 3;
struct Ruleset {
  uint64_t files, network, scoped;
};

constexpr uint64_t kSpecialFiles = LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                                   LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO;

}  // namespace

int landlock_version() {
  long version = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return version < 0 ? 0 : int(version);
}

FileRules::FileRules() {
  int version = landlock_version();
  if (version == 0) throw Error("this kernel has no Landlock");
  Ruleset rules{(LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1, 0, 0};
  if (version >= 2) rules.files |= LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3) rules.files |= kTruncate;
  if (version >= 4) rules.network = kBindAndConnect;
  if (version >= 5) rules.files |= kDeviceControl;
  if (version >= 6) rules.scoped = kAbstractSocketsAndSignals;
  size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
  governed_ = rules.files;
  rules_ = FileDescriptor(int(syscall(SYS_landlock_create_ruleset, &rules, size, 0)));
  if (rules_.get() < 0) throw_errno("Landlock", errno);
}

void FileRules::allow(const fs::path& path, Access access) {
  FileDescriptor file(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (file.get() < 0) throw_errno(path.string(), errno);
  uint64_t rights = LANDLOCK_ACCESS_FS_READ_FILE;
  if (access == Access::execute) rights |= LANDLOCK_ACCESS_FS_EXECUTE;
  if (access == Access::read_write) rights |= LANDLOCK_ACCESS_FS_WRITE_FILE;
  if (access == Access::all_regular)
    rights = governed_ & ~kSpecialFiles;
  else if (fs::is_directory(path))
    rights |= LANDLOCK_ACCESS_FS_READ_DIR;
  landlock_path_beneath_attr rule{rights, file.get()};
  if (syscall(SYS_landlock_add_rule, rules_.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
    throw_errno(path.string() + ": Landlock", errno);
}

CallFilter::CallFilter() {
  load(offsetof(seccomp_data, arch));
  add(BPF_JMP | BPF_JEQ | BPF_K, kProcessor, 1, 0);
  add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  load(offsetof(seccomp_data, nr));
  // The second set of numbers that x86 has.
  add(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
  add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
}

void CallFilter::allow(std::span<const int> calls) {
  for (int call : calls) {
    add(BPF_JMP | BPF_JEQ | BPF_K, uint32_t(call), 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
}

void CallFilter::refuse(std::span<const int> calls, int error) {
  for (int call : calls) {
    add(BPF_JMP | BPF_JEQ | BPF_K, uint32_t(call), 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | uint32_t(error));
  }
}

// An argument has two halves of 32 bits, the low one first.
void CallFilter::allow_where(int call, int argument, uint64_t mask,
                             std::span<const uint64_t> values) {
  constexpr size_t kLinesPerValue = 7;
  size_t offset = offsetof(seccomp_data, args) + size_t(argument) * sizeof(uint64_t);
  add(BPF_JMP | BPF_JEQ | BPF_K, uint32_t(call), 0, values.size() * kLinesPerValue + 1);
  for (uint64_t value : values) {
    load(offset);
    add(BPF_ALU | BPF_AND | BPF_K, uint32_t(mask));
    add(BPF_JMP | BPF_JEQ | BPF_K, uint32_t(value), 0, 4);
    load(offset + sizeof(uint32_t));
    add(BPF_ALU | BPF_AND | BPF_K, uint32_t(mask >> 32));
    add(BPF_JMP | BPF_JEQ | BPF_K, uint32_t(value >> 32), 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
  add(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
}

void CallFilter::allow_others() { add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW); }
void CallFilter::refuse_others() { add(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM); }

void CallFilter::add(int code, uint32_t value, size_t yes, size_t no) {
  if (yes > UINT8_MAX || no > UINT8_MAX) throw Error("a filter of system calls that is too long");
  code_.push_back({uint16_t(code), uint8_t(yes), uint8_t(no), value});
}
void CallFilter::load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, uint32_t(offset)); }

Restriction make_restriction(const FileRules& files, const CallFilter& calls) {
  auto& program = calls.program();
  return {files.descriptor(),
          {static_cast<unsigned short>(program.size()), const_cast<sock_filter*>(program.data())}};
}

int restrict_self(const Restriction& restriction, const char** failed) {
  auto fault = [&](const char* guard) {
    if (failed) *failed = guard;
    return errno;
  };
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fault("no new privileges");
  if (syscall(SYS_landlock_restrict_self, restriction.file_rules, 0) != 0) return fault("Landlock");
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
              &restriction.calls) != 0)
    return fault("seccomp");
  return 0;
}

}  // namespace pretrained
