#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <thread>

#include "server/cas/cas_fixture.h"

// Run by hand: --gtest_also_run_disabled_tests --gtest_filter='*Throughput*'. Figures of one run
// are comparable with each other only.

namespace pretrained::server::testing {
namespace {

constexpr size_t kSize = size_t(1) << 30;
constexpr int kRounds = 2;

// Wall-clock seconds, and those of all processors.
struct Time {
  double wall, cpu;
};

Time measure(const std::function<void()>& work) {
  auto begin = std::chrono::steady_clock::now();
  auto cpu = std::clock();
  work();
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
          double(std::clock() - cpu) / CLOCKS_PER_SEC};
}

void report(const char* what, const Time& time) {
  std::printf("%-32s %6.2f s  %6.0f MB/s  %6.2f s of processors\n", what, time.wall,
              double(kSize) / 1e6 / time.wall, time.cpu);
  std::fflush(stdout);
}

// What a plain server does: bytes to a file and to the disk.
void write_durably(const fs::path& path, const std::string& bytes) {
  int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
  for (size_t at = 0; at < bytes.size(); at += 1 << 20)
    ASSERT_GT(write(fd, bytes.data() + at, std::min<size_t>(1 << 20, bytes.size() - at)), 0);
  fdatasync(fd);
  close(fd);
}

TEST_F(CasTest, DISABLED_Throughput) {
  if (auto* place = std::getenv("CAS_BENCH_FOLDER")) {
    fs::remove_all(folder);
    folder = fs::path(place) / "cas-bench";
    fs::create_directories(folder);
  }
  for (bool floats : {false, true}) {
    std::printf("%s\n", floats ? "float32 weights" : "random bytes");
    for (int round = 0; round < kRounds; ++round) {
      std::string bytes = floats ? float_bytes(kSize, 1) : random_bytes(kSize, 2);
      fs::create_directories(folder / std::to_string(round));
      Hub hub(folder / std::to_string(round));
      int64_t repo = hub.add_repo("a");
      std::string sha256;
      report("SHA-256", measure([&] { sha256 = sha256_hex(bytes); }));
      report("write + fdatasync", measure([&] { write_durably(folder / "plain", bytes); }));
      ContentObject object;
      report("put_object", measure([&] {
               object = hub.content.put_object(repo, sha256, kSize, reader(bytes, 1 << 20));
             }));
      std::printf("  stored %.3f of the size\n", double(hub.stored()) / double(kSize));
      report("put_object of the same again",
             measure([&] { hub.content.put_object(repo, sha256, kSize, reader(bytes, 1 << 20)); }));
      int ends[2];
      ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
      std::thread sink([&] {
        std::string buffer(1 << 20, '\0');
        while (read(ends[1], buffer.data(), buffer.size()) > 0) {
        }
      });
      auto send = [&](std::string_view part) {
        while (!part.empty()) part.remove_prefix(size_t(write(ends[0], part.data(), part.size())));
      };
      auto send_file = [&](int fd, uint64_t offset, uint64_t length) {
        off_t at = off_t(offset);
        while (length > 0) length -= uint64_t(sendfile(ends[0], fd, &at, length));
      };
      report("read, first time",
             measure([&] { hub.content.read(object, 0, kSize - 1, {send, send_file}); }));
      report("read", measure([&] { hub.content.read(object, 0, kSize - 1, {send, send_file}); }));
      FileDescriptor plain(open((folder / "plain").c_str(), O_RDONLY));
      report("sendfile of the plain file", measure([&] { send_file(plain.get(), 0, kSize); }));
      close(ends[0]);
      sink.join();
      close(ends[1]);
    }
    for (int round = 0; round < kRounds; ++round) fs::remove_all(folder / std::to_string(round));
  }
}

}  // namespace
}  // namespace pretrained::server::testing
