#pragma once
// A model that does what `attack` says, once in its constructor or forward. In it is what model
// code can write without any header of the system's.
#include <pretrained/model.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

extern "C" long syscall(long number, ...);

struct HostileConfig : pretrained::PretrainedConfig<HostileConfig> {
  static constexpr auto model_type = "hostile";
  std::string attack, text, canary;
  PRETRAINED_FIELDS(attack, text, canary)
};

namespace hostile {

#if defined(__x86_64__)
constexpr long number(long x86, long) { return x86; }
#else
constexpr long number(long, long arm) { return arm; }
#endif

inline std::string& last_error() {
  static std::string text;
  return text;
}

// Names of what was not refused, and "." for each try.
inline std::string try_all(const std::string& canary) {
  const long at = -100, parent = syscall(number(110, 173));
  const char *path = canary.c_str(), *argv[] = {"/bin/true", nullptr};
  std::string other = canary + ".new", out;
  unsigned long words[32] = {};
  auto attempt = [&](const char* name, long result) {
    out += ".";
    if (result >= 0) out += name;
  };
  auto open = [&](const char* file, long flags) {
    return syscall(number(257, 56), at, file, flags, 0600);
  };
  attempt("open passwd", open("/etc/passwd", 0));
  attempt("open canary", open(path, 0));
  attempt("write canary", open(path, 1));
  attempt("create", open(other.c_str(), 0101));
  attempt("unnamed file", open("/tmp", 020200001));
  attempt("list", open("/", 0200000));
  attempt("own memory", open("/proc/self/mem", 2));
  attempt("parent's memory", open(("/proc/" + std::to_string(parent) + "/mem").c_str(), 0));
  attempt("parent's maps", open(("/proc/" + std::to_string(parent) + "/maps").c_str(), 0));
  attempt("parent's files", open(("/proc/" + std::to_string(parent) + "/fd/0").c_str(), 0));
  attempt("socket", syscall(number(41, 198), 2, 1, 0));
  attempt("socketpair", syscall(number(53, 199), 1, 1, 0, words));
  attempt("connect", syscall(number(42, 203), 3, words, 16));
  long child = syscall(number(56, 220), 17, 0, 0, 0, 0);
  if (child == 0) syscall(number(231, 94), 0);
  attempt("clone", child);
  attempt("clone3", syscall(435, words, 88));
  attempt("execve", syscall(number(59, 221), argv[0], argv, nullptr));
  attempt("kill", syscall(number(62, 129), parent, 0));
  attempt("tgkill", syscall(number(234, 131), parent, parent, 0));
  attempt("signals of the socket", syscall(number(72, 25), 3, 8, parent));
  attempt("asynchronous socket", syscall(number(72, 25), 3, 4, 020000));
  attempt("ptrace", syscall(number(101, 117), 16, parent, 0, 0));
  attempt("process_vm_readv", syscall(number(310, 270), parent, words, 1, words, 1, 0));
  attempt("pidfd_open", syscall(434, parent, 0));
  attempt("mkdir", syscall(number(258, 34), at, other.c_str(), 0700));
  attempt("unlink", syscall(number(263, 35), at, path, 0));
  attempt("rename", syscall(number(316, 276), at, path, at, other.c_str(), 0));
  attempt("symlink", syscall(number(266, 36), path, at, other.c_str()));
  attempt("truncate", syscall(number(76, 45), path, 0));
  attempt("chmod", syscall(number(268, 53), at, path, 0777));
  attempt("readlink", syscall(number(267, 78), at, "/proc/self/exe", words, 200));
  attempt("chdir", syscall(number(80, 49), "/"));
  attempt("mount", syscall(number(165, 40), "none", "/tmp", "tmpfs", 0, nullptr));
  attempt("unshare", syscall(number(272, 97), 0x10000000));
  attempt("outlive the parent", syscall(number(157, 167), 1, 0));
  attempt("limits", syscall(number(302, 261), 0, 9, words, nullptr));
  attempt("memfd_create", syscall(number(319, 279), "x", 0));
  attempt("ioctl", syscall(number(16, 29), 0, 0x5412, "x"));
  attempt("io_uring", syscall(425, 1, words));
  attempt("userfaultfd", syscall(number(323, 282), 0));
  attempt("bpf", syscall(number(321, 280), 0, words, 8));
  attempt("perf_event_open", syscall(number(298, 241), words, 0, -1, -1, 0));
  attempt("stat passwd", syscall(number(262, 79), at, "/etc/passwd", words, 0));
  attempt("stat canary", syscall(number(262, 79), at, path, words, 0));
  attempt("stat parent",
          syscall(number(262, 79), at, ("/proc/" + std::to_string(parent)).c_str(), words, 0));
  attempt("statx", syscall(number(332, 291), at, path, 0, 0xfff, words));
  attempt("access", syscall(number(269, 48), at, path, 0));
  attempt("shmget", syscall(number(29, 194), 0, 4096, 01600));
  return out;
}

// Runs while the library is loaded.
inline const std::string loaded = try_all("/tmp/pretrained-hostile-canary");

inline void say(const std::string& bytes) { syscall(number(1, 64), 3, bytes.data(), bytes.size()); }
inline void say_message(const std::string& json) {
  unsigned size = unsigned(json.size());
  say(std::string(reinterpret_cast<const char*>(&size), 4) + json);
}

inline void do_harm(const HostileConfig& config) {
  auto& what = config.attack;
  if (what == "abort") std::abort();
  if (what == "crash") *reinterpret_cast<volatile int*>(8) = 1;
  if (what == "exit") std::_Exit(7);
  if (what == "hang")
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  if (what == "throw") throw std::runtime_error("thrown by the model");
  if (what == "throw an int") throw 42;
  if (what == "eat")
    for (std::vector<std::vector<char>> all;;) all.emplace_back(size_t(64) << 20, 'x');
  if (what == "close") syscall(number(3, 57), 3);
  if (what == "say") say(config.text);
  if (what == "message") say_message(config.text);
}

}  // namespace hostile

struct Hostile : pretrained::PreTrainedModel<Hostile, HostileConfig> {
  static constexpr std::array inputs{"x"};
  torch::Tensor weight;
  std::string tried;
  explicit Hostile(const Config& config) : PreTrainedModel(config) {
    weight = register_parameter("weight", torch::ones({2}));
    tried = hostile::loaded + "|" + hostile::try_all(config.canary) + "|";
    if (config.text == "constructor") hostile::do_harm(config);
  }
  pretrained::NamedTensors forward(torch::Tensor x) {
    if (x.numel() == 1) return {{"output", x * weight}};  // behaves
    hostile::do_harm(config());
    std::string all = tried + hostile::try_all(config().canary);
    return {{"output", x * weight},
            {"tried", torch::tensor(std::vector<int64_t>(all.begin(), all.end()))}};
  }
};
