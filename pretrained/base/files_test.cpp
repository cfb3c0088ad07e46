#include "pretrained/base/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pretrained/base/error.h"
#include "pretrained/base/process.h"
#include "pretrained/base/sha256.h"

namespace {

namespace fs = std::filesystem;
using namespace pretrained;

class Files : public testing::Test {
 protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("pretrained-files-" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder / "sub");
    write_file_atomically(folder / "a.txt", "hello");
    write_file_atomically(folder / "sub/b.txt", "world");
  }
  void TearDown() override { fs::remove_all(folder); }
  fs::path folder;
};

TEST_F(Files, ReadsWholeFilesWithinTheLimit) {
  EXPECT_EQ(read_file(folder / "a.txt"), "hello");
  EXPECT_THROW(read_file(folder / "a.txt", 4), FormatError);
  EXPECT_THROW(read_file(folder / "none"), NotFoundError);
  EXPECT_THROW(read_file(folder), FormatError);
  mkfifo((folder / "fifo").c_str(), 0600);
  EXPECT_THROW(read_file(folder / "fifo"), FormatError);
}

TEST_F(Files, NothingOutsideTheFolderIsOpened) {
  EXPECT_EQ(read_inside(folder, "sub/b.txt"), "world");
  fs::create_symlink("/etc/passwd", folder / "out");
  fs::create_symlink("..", folder / "up");
  fs::create_symlink("sub/b.txt", folder / "in");
  EXPECT_EQ(read_inside(folder, "in"), "world");
  for (std::string name :
       {"/etc/passwd", "../a.txt", "sub/../../x", "sub/..", "a\\b", "", "out", "up/a.txt"})
    EXPECT_THROW(read_inside(folder, name), FormatError) << name;
  EXPECT_THROW(read_inside(folder, std::string("a.txt\0x", 7)), FormatError);
  EXPECT_THROW(read_inside(folder, "none"), NotFoundError);
  EXPECT_THROW(read_inside(folder, "sub"), FormatError);
}

TEST_F(Files, LinksOfTheHubCacheLeadToItsBlobsOnly) {
  std::string commit(40, 'a'), git(40, '1'), sha(64, '2'), xet(64, '3');
  fs::path repo = folder / "hub/models--o--n", snapshot = repo / "snapshots" / commit;
  for (auto& made : {snapshot / "sub", repo / "blobs", folder / "hub/blobs/33"})
    fs::create_directories(made);
  write_file_atomically(repo / "blobs" / git, "config");
  write_file_atomically(folder / "hub/blobs/33" / xet, "weights");
  write_file_atomically(folder / "hub/secret", "secret");
  fs::create_symlink("../../blobs/33/" + xet, repo / "blobs" / sha);
  fs::create_symlink("../../blobs/" + git, snapshot / "config.json");
  fs::create_symlink("../../../blobs/" + git, snapshot / "sub/config.json");
  fs::create_symlink("../../blobs/" + sha, snapshot / "weights");
  EXPECT_EQ(read_inside(snapshot, "config.json"), "config");
  EXPECT_EQ(read_inside(snapshot, "sub/config.json"), "config");
  EXPECT_EQ(read_inside(snapshot / "sub", "config.json"), "config");
  EXPECT_EQ(read_inside(snapshot / "sub/", "config.json"), "config");
  EXPECT_EQ(read_inside(snapshot, "weights"), "weights");

  fs::create_symlink("../../../secret", snapshot / "out");
  fs::create_symlink("../../blobs/../../secret", snapshot / "dots");
  fs::create_symlink("../../../secret", repo / "blobs" / std::string(40, '4'));
  fs::create_symlink("../../blobs/" + std::string(40, '4'), snapshot / "through");
  fs::create_symlink("../../../../hub/models--o--n/blobs", snapshot / "folder");
  fs::create_symlink((repo / "blobs" / git).string(), snapshot / "absolute");
  fs::create_symlink("../blobs/" + git, snapshot / "sub/short");
  for (std::string name : {"out", "dots", "through", "folder", "absolute"})
    EXPECT_THROW(read_inside(snapshot, name), FormatError) << name;
  EXPECT_THROW(read_inside(snapshot, "sub/short"), NotFoundError);  // stays inside, leads nowhere
  EXPECT_THROW(read_inside(snapshot, "folder/" + git), FormatError);
  // The same link in a folder that is no snapshot.
  fs::create_directories(repo / "other" / commit);
  fs::create_symlink("../../blobs/" + git, repo / "other" / commit / "config.json");
  EXPECT_THROW(read_inside(repo / "other" / commit, "config.json"), FormatError);
}

TEST_F(Files, PrivateFilesAreOursAndPlain) {
  fs::path file = folder / "private";
  write_file_atomically(file, "mine", 0600);
  EXPECT_EQ(read_private_file(file, 4), "mine");
  EXPECT_FALSE(read_private_file(file, 3));
  EXPECT_FALSE(read_private_file(folder / "none", 3));
  fs::create_symlink(file, folder / "link");
  EXPECT_FALSE(read_private_file(folder / "link", 4));
  chmod(file.c_str(), 0620);
  EXPECT_FALSE(read_private_file(file, 4));
  EXPECT_FALSE(is_private_file(file));
  chmod(file.c_str(), 0600);
  if (geteuid() == 0) {
    ASSERT_EQ(chown(file.c_str(), 65534, 65534), 0);
    EXPECT_FALSE(read_private_file(file, 4));
  }
}

TEST_F(Files, AProcessEndsWithWhoStartedIt) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  pid_t starter = fork();
  if (starter == 0) {
    std::string script = "echo $$ > " + (folder / "pid").string() + "; exec sleep 60";
    run_process({"/bin/sh", "-c", script});
    _exit(0);
  }
  for (int i = 0; i < 500 && !fs::exists(folder / "pid"); ++i) usleep(10'000);
  usleep(50'000);
  kill(starter, SIGKILL);
  waitpid(starter, nullptr, 0);
  pid_t sleeper = std::stoi(read_file(folder / "pid"));
  int alive = 0;
  for (int i = 0; i < 500; ++i) {
    // A zombie that init has not collected is dead too.
    std::error_code error;
    alive = fs::exists("/proc/" + std::to_string(sleeper) + "/exe", error) && !error;
    if (!alive) break;
    usleep(10'000);
  }
  EXPECT_FALSE(alive);
  close(ends[0]);
  close(ends[1]);
}

TEST_F(Files, TheTimeoutHoldsForAProcessThatClosedItsOutput) {
  auto start = std::chrono::steady_clock::now();
  auto result =
      run_process({"/bin/sh", "-c", "exec >&- 2>&-; sleep 60"}, {}, std::chrono::milliseconds(200));
  EXPECT_TRUE(result.timed_out);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST_F(Files, AnAbandonedWriteLeavesTheOldFile) {
  {
    AtomicFile file(folder / "a.txt");
    file.write("half");
  }
  EXPECT_EQ(read_file(folder / "a.txt"), "hello");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 2);
  write_file_atomically(folder / "a.txt", "new");
  EXPECT_EQ(read_file(folder / "a.txt"), "new");
  EXPECT_THROW(AtomicFile(folder / "none/x"), NotFoundError);
}

// In a container every process has the same number.
TEST_F(Files, WhatAKilledProcessLeftIsInNobodysWay) {
  std::string left = ".a.txt.tmp-" + std::to_string(getpid()) + "-";
  for (int i = 0; i < 100; ++i) write_file_atomically(folder / (left + std::to_string(i)), "half");
  write_file_atomically(folder / "a.txt", "new");
  EXPECT_EQ(read_file(folder / "a.txt"), "new");
}

TEST_F(Files, ALockIsReleasedWhenItsHolderDies) {
  if (pid_t child = fork(); child == 0) {
    FileLock lock(folder / "lock");
    _exit(0);
  } else {
    waitpid(child, nullptr, 0);
  }
  FileLock lock(folder / "lock");
}

TEST(Process, CollectsOutputAndExitCodes) {
  auto result = run_process({"sh", "-c", "echo out; echo err >&2; exit 3"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.output, "out\nerr\n");
  EXPECT_EQ(run_process({"cat"}).output, "");
  EXPECT_THROW(run_process({"no-such-program-here"}), NotFoundError);
  auto slow = run_process({"sh", "-c", "sleep 20 & sleep 20"}, {}, std::chrono::milliseconds(100));
  EXPECT_TRUE(slow.timed_out);
}

TEST(Process, GivesTheProgramNoMoreThanItWasMeantToHave) {
  int leak = open("/etc/hostname", O_RDONLY);
  ASSERT_GE(leak, 0);
  EXPECT_NE(run_process({"sh", "-c", "cat <&" + std::to_string(leak)}).exit_code, 0);
  close(leak);
  Confinement confinement{.environment = std::vector<std::string>{"ONLY=this"}};
  EXPECT_EQ(run_process({"env"}, {}, std::chrono::minutes(1), confinement).output, "ONLY=this\n");
  confinement.enter = [](const void*) { return EPERM; };
  EXPECT_THROW(run_process({"env"}, {}, std::chrono::minutes(1), confinement), IoError);
}

TEST(Process, StandardStreamsMayBeClosed) {
  int saved[3];
  for (int fd : {0, 1, 2}) saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 10);
  for (int fd : {0, 1, 2}) close(fd);
  auto result = run_process({"sh", "-c", "cat; echo out; echo err >&2"});
  for (int fd : {0, 1, 2}) dup2(saved[fd], fd), close(saved[fd]);
  EXPECT_EQ(result.output, "out\nerr\n");
}

TEST(Sha256, MatchesTheStandard) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_NE(Sha256().update_framed("ab").update_framed("c").hex(),
            Sha256().update_framed("a").update_framed("bc").hex());
}

TEST(Printable, MakesTextSafeForATerminal) {
  EXPECT_EQ(printable("a\x1b[31m\n"), "a\\x1b[31m\\x0a");
  EXPECT_EQ(printable("é한\xff"), "é한\\xff");
  EXPECT_EQ(printable("\u202Egnp"), "\\u{202e}gnp");
  EXPECT_EQ(printable(std::string(300, 'x'), 10), "xxxxxxxxxx…");
}

}  // namespace
