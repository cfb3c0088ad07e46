#include "pretrained/base/restrict.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "pretrained/base/error.h"

namespace pretrained {
namespace {

namespace fs = std::filesystem;

// The exit code of `body`, run in a child that is restricted.
template <class Body>
int restricted(const FileRules& files, const CallFilter& calls, Body body) {
  Restriction restriction = make_restriction(files, calls);
  pid_t child = fork();
  if (child == 0) _exit(restrict_self(restriction) != 0 ? 99 : body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int error_of(long result) { return result < 0 ? errno : 0; }

class Restrict : public testing::Test {
 protected:
  void SetUp() override {
    root = fs::temp_directory_path() / ("pretrained-restrict-" + std::to_string(getpid()));
    fs::create_directories(root / "mine");
    write_file_atomically(root / "mine/file", "text");
    write_file_atomically(root / "other", "text");
  }
  void TearDown() override { fs::remove_all(root); }
  CallFilter all_calls() {
    CallFilter calls;
    calls.allow_others();
    return calls;
  }
  fs::path root;
};

TEST_F(Restrict, FilesAreThoseThatWereAllowed) {
  std::string mine = root / "mine/file", other = root / "other", fresh = root / "mine/new";
  auto opens = [](const std::string& path, int flags) {
    return error_of(open(path.c_str(), flags, 0600));
  };
  FileRules reading;
  reading.allow(root / "mine", FileRules::Access::read);
  EXPECT_EQ(restricted(reading, all_calls(), [&] { return opens(mine, O_RDONLY); }), 0);
  EXPECT_EQ(restricted(reading, all_calls(), [&] { return opens(other, O_RDONLY); }), EACCES);
  EXPECT_EQ(restricted(reading, all_calls(), [&] { return opens(mine, O_WRONLY); }), EACCES);
  FileRules writing;
  writing.allow(root / "mine", FileRules::Access::all_regular);
  EXPECT_EQ(restricted(writing, all_calls(), [&] { return opens(fresh, O_CREAT | O_WRONLY); }), 0);
  EXPECT_EQ(restricted(writing, all_calls(),
                       [&] { return error_of(mkfifo((fresh + "-pipe").c_str(), 0600)); }),
            EACCES);
  EXPECT_THROW(writing.allow(root / "nowhere", FileRules::Access::read), NotFoundError);
}

TEST_F(Restrict, CallsAreThoseThatWereNotRefused) {
  FileRules files;
  CallFilter calls;
  constexpr int kRefused[] = {SYS_getcwd, SYS_uname};
  calls.refuse(kRefused, ENOTTY);
  calls.allow_others();
  char buffer[4096];
  EXPECT_EQ(restricted(files, calls, [&] { return error_of(syscall(SYS_uname, buffer)); }), ENOTTY);
  EXPECT_EQ(restricted(files, calls, [] { return error_of(syscall(SYS_getuid)); }), 0);
}

TEST_F(Restrict, ArgumentsCountWithAll64Bits) {
  FileRules files;
  CallFilter calls;
  constexpr uint64_t kNothing[] = {0}, kEvenHigh[] = {0, uint64_t{2} << 32};
  calls.allow_where(SYS_prlimit64, 2, UINT64_MAX, kNothing);
  // getcpu does nothing with its third argument.
  calls.allow_where(SYS_getcpu, 2, uint64_t{0xff} << 32, kEvenHigh);
  calls.allow_others();
  auto of = [&](auto body) { return restricted(files, calls, body); };
  rlimit limit{};
  EXPECT_EQ(of([&] { return error_of(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 0l, &limit)); }), 0);
  EXPECT_EQ(of([&] { return error_of(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, 0l)); }),
            EPERM);
  EXPECT_EQ(of([&] { return error_of(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 1l << 40, 0l)); }),
            EPERM);
  EXPECT_EQ(of([] { return error_of(syscall(SYS_getcpu, 0l, 0l, 5l)); }), 0);
  EXPECT_EQ(of([] { return error_of(syscall(SYS_getcpu, 0l, 0l, 2l << 32)); }), 0);
  EXPECT_EQ(of([] { return error_of(syscall(SYS_getcpu, 0l, 0l, 1l << 32)); }), EPERM);
}

TEST_F(Restrict, OthersAreRefused) {
  CallFilter calls;
  // A sanitizer looks at its signal stack before the end.
  constexpr int kNeeded[] = {SYS_exit_group, SYS_getuid, SYS_sigaltstack};
  calls.allow(kNeeded);
  calls.refuse_others();
  EXPECT_EQ(restricted(FileRules(), calls, [] { return error_of(syscall(SYS_getuid)); }), 0);
  EXPECT_EQ(restricted(FileRules(), calls, [] { return error_of(syscall(SYS_getpid)); }), EPERM);
}

}  // namespace
}  // namespace pretrained
