#include "pretrained/code/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <chrono>
#include <thread>

#include <chrono>
#include <cstddef>
#include <thread>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"

namespace {

namespace fs = std::filesystem;
using namespace pretrained;
using code::Sandbox;

// Both guards keep the same promises.
class Guarded : public testing::TestWithParam<Sandbox> {
 protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("pretrained-sandbox-" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder / "inside");
    fs::create_directories(folder / "toolchain");
    write_file_atomically(folder / "secret", "the secret");
    write_file_atomically(folder / "toolchain/header.h", "a header");
    code::Toolchain toolchain;
    toolchain.sandbox = GetParam();
    ASSERT_EQ(code::choose_sandbox(toolchain), GetParam());
  }
  void TearDown() override { fs::remove_all(folder); }
  ProcessResult run(const std::string& script) {
    job.argv = {"/bin/sh", "-c", script};
    job.folder = job.directory = folder / "inside";
    job.readable = {folder / "toolchain"};
    return code::run_sandboxed(GetParam(), job);
  }
  fs::path folder;
  code::Job job;
};

TEST_P(Guarded, SeesItsToolchainAndWritesItsFolderOnly) {
  std::string at = folder.string() + "/";
  EXPECT_EQ(run("echo made > made && cat made " + at + "toolchain/header.h").output,
            "made\na header");
  EXPECT_EQ(read_file(folder / "inside/made"), "made\n");
  for (std::string path : {at + "secret", std::string("/etc/shadow"), std::string("/etc/passwd"),
                           std::string("/proc/self/environ"), std::string("/proc/1/cmdline")}) {
    auto result = run("cat " + path);
    EXPECT_NE(result.exit_code, 0) << path;
    EXPECT_EQ(result.output.find("the secret"), std::string::npos);
  }
  EXPECT_EQ(run("ls -a " + at).output.find("secret"), std::string::npos);
  for (std::string command : std::initializer_list<std::string>{
           "echo x > " + at + "toolchain/header.h", "echo x > " + at + "new",
           "rm -f " + at + "secret && test ! -e " + at + "secret && false",
           "echo x > /usr/include/x.h", "chmod 777 " + at + "toolchain/header.h",
           "touch " + at + "toolchain/header.h", "ln -s " + at + "secret link && cat link",
           "mv " + at + "toolchain/header.h moved"}) {
    auto result = run(command);
    EXPECT_NE(result.exit_code, 0) << command;
    EXPECT_EQ(result.output.find("the secret"), std::string::npos);
  }
  EXPECT_EQ(read_file(folder / "secret"), "the secret");
  EXPECT_EQ(read_file(folder / "toolchain/header.h"), "a header");
  EXPECT_FALSE(fs::exists(folder / "new"));
}

TEST_P(Guarded, HasNoVariablesAndNoOpenFilesOfOurs) {
  setenv("HF_TOKEN", "hf_secret", 1);
  setenv("LD_PRELOAD", "", 1);
  int leak = open((folder / "secret").c_str(), O_RDONLY);
  ASSERT_GE(leak, 0);
  auto result = run("env; cat <&" + std::to_string(leak));
  close(leak);
  unsetenv("HF_TOKEN");
  unsetenv("LD_PRELOAD");
  EXPECT_EQ(result.output.find("hf_secret"), std::string::npos);
  EXPECT_EQ(result.output.find("HOME="), std::string::npos);
  EXPECT_EQ(result.output.find("LD_PRELOAD"), std::string::npos);
  EXPECT_EQ(result.output.find("the secret"), std::string::npos);
  EXPECT_NE(result.output.find("TMPDIR=" + (folder / "inside").string()), std::string::npos);
}

TEST_P(Guarded, HasNoNetworkAndNoOtherProcess) {
  for (std::string python : std::initializer_list<std::string>{
           "import socket; socket.create_connection(('127.0.0.1', 22), 2)",
           "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
           "s.sendto(b'x', ('8.8.8.8', 53))",
           "import socket; socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')",
           "import os; os.kill(" + std::to_string(getpid()) + ", 9)",
           "import os; os.kill(" + std::to_string(getppid()) + ", 0)"})
    EXPECT_NE(run("/usr/bin/python3 -c \"" + python + "\"").exit_code, 0) << python;
}

TEST_P(Guarded, IsBounded) {
  auto& limit = job.time_limit;
  limit = std::chrono::seconds(1);
  auto start = std::chrono::steady_clock::now();
  // A length of its own: the same test of the other guard may run beside this one.
  std::string sleep = "sleep " + std::to_string(100'000 + getpid());
  auto result =
      run("(" + sleep + " &) ; (setsid " + sleep + " &) ; echo mine; while :; do :; done");
  EXPECT_TRUE(result.timed_out || result.exit_code > 128) << result.exit_code;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  auto left = [&] {
    return run_process({"sh", "-c", "ps ax | grep '[s]" + sleep.substr(1) + "'"}).output;
  };
  while (!left().empty() && std::chrono::steady_clock::now() - start < std::chrono::seconds(20))
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // killed, not yet collected
  EXPECT_EQ(left(), "");
  limit = std::chrono::seconds(60);
  job.memory_limit = 200 << 20;
  EXPECT_NE(run("/usr/bin/python3 -c \"x = bytearray(1 << 30)\"").exit_code, 0);
  job.memory_limit = uint64_t(6) << 30;
  EXPECT_NE(run("/usr/bin/python3 -c \"import os; os.truncate('inside', 0); "
                "os.posix_fallocate(os.open('big', 65), 0, 2 << 30)\"")
                .exit_code,
            0);
  limit = std::chrono::seconds(1);
  EXPECT_LE(run("yes 0123456789").output.size(), size_t(4) << 20);
}

INSTANTIATE_TEST_SUITE_P(Code, Guarded, testing::Values(Sandbox::bubblewrap, Sandbox::landlock),
                         [](auto& info) {
                           return info.param == Sandbox::landlock ? "Landlock" : "Bubblewrap";
                         });

// In a child: seccomp takes Landlock away, an empty PATH bubblewrap.
int without_guards(const std::function<int()>& call) {
  pid_t child = fork();
  if (child == 0) {
    sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 38),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    sock_fprog program{4, filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    setenv("PATH", "/nowhere", 1);
    _exit(call());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Sandbox, WhereThereIsNoneIsRefusedByName) {
  code::Toolchain toolchain;
  std::string notice;
  toolchain.notice = [&](const std::string& line) { notice = line; };
  auto refused = [&](const std::string& why) {
    try {
      code::choose_sandbox(toolchain);
    } catch (const CompileError& error) {
      return std::string(error.what()).find(why) != std::string::npos;
    }
    return false;
  };
  EXPECT_EQ(without_guards([&]() -> int {
              if (!refused("bubblewrap is not installed")) return 1;
              if (!refused("this kernel has no Landlock")) return 2;
              toolchain.sandbox = Sandbox::bubblewrap;
              if (!refused("bubblewrap is not installed")) return 3;
              toolchain.sandbox = Sandbox::landlock;
              if (!refused("this kernel has no Landlock")) return 4;
              toolchain.sandbox = Sandbox::automatic;
              setenv("PRETRAINED_UNSAFE_COMPILE", "true", 1);
              if (!refused("PRETRAINED_UNSAFE_COMPILE=1")) return 5;
              setenv("PRETRAINED_UNSAFE_COMPILE", "1", 1);
              if (code::choose_sandbox(toolchain) != Sandbox::none) return 6;
              return notice.find("WITHOUT a sandbox: bubblewrap is not installed") == notice.npos;
            }),
            0);
  toolchain.sandbox = Sandbox::none;
  EXPECT_EQ(code::choose_sandbox(toolchain), Sandbox::none);
  EXPECT_NE(notice.find("WITHOUT a sandbox"), std::string::npos);
}

}  // namespace
