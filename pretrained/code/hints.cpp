#include "pretrained/code/hints.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <string_view>

#include "pretrained/base/error.h"

namespace pretrained::code {
namespace {

constexpr size_t kLongLine = 400;

const std::map<std::string_view, const char*>& words() {
  static const auto* const words = [] {
    auto* map = new std::map<std::string_view, const char*>;
    auto add = [&](const char* what, std::initializer_list<std::string_view> list) {
      for (auto word : list) (*map)[word] = what;
    };
    add("network", {"socket", "connect", "bind", "listen", "accept", "getaddrinfo", "gethostbyname",
                    "sendto", "recvfrom", "curl_easy_init", "socketpair"});
    add("starts programs", {"system", "popen", "fork", "vfork", "exec", "execl", "execle", "execlp",
                            "execv", "execve", "execvp", "execvpe", "fexecve", "posix_spawn",
                            "posix_spawnp", "syscall", "ptrace", "kill"});
    add("loads libraries", {"dlopen", "dlmopen", "dlsym", "dlvsym", "dl_iterate_phdr"});
    add("assembly", {"asm", "__asm", "__asm__"});
    add("files",
        {"fopen",    "freopen",  "open",       "openat",   "creat",   "unlink",     "remove",
         "rename",   "rmdir",    "mkdir",      "chmod",    "chown",   "symlink",    "mkstemp",
         "opendir",  "readdir",  "ifstream",   "ofstream", "fstream", "filesystem", "tmpfile",
         "truncate", "sendfile", "remove_all", "filebuf"});
    add("threads", {"thread", "jthread", "pthread_create", "async", "signal", "sigaction", "atexit",
                    "at_quick_exit"});
    add("environment", {"getenv", "secure_getenv", "setenv", "putenv", "unsetenv", "environ"});
    add("raw memory", {"mmap", "mprotect", "memfd_create", "shmat", "process_vm_readv",
                       "process_vm_writev", "longjmp", "setjmp"});
    add("attributes", {"__attribute__", "__attribute", "init_priority"});
    return map;
  }();
  return *words;
}

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

const char* find_word(std::string_view line) {
  for (size_t i = 0; i < line.size();) {
    size_t begin = i;
    while (i < line.size() && is_word(line[i])) ++i;
    if (auto found = words().find(line.substr(begin, i - begin)); found != words().end())
      return found->second;
    i += i == begin;
  }
  return nullptr;
}

bool is_pragma(std::string_view line) {
  size_t at = line.find_first_not_of(" \t");
  if (line.find("_Pragma") != line.npos) return true;
  if (at == line.npos || line[at] != '#') return false;
  at = line.find_first_not_of(" \t", at + 1);
  if (at == line.npos || line.substr(at, 6) != "pragma") return false;
  return line.substr(at).find("once") == line.npos;
}

// Characters that make text look like other text: see `printable`.
bool has_hidden(const std::string& line) {
  std::string plain;
  for (char c : line)
    if (c != '\t' && c != '\r') plain += c;
  return printable(plain, 4 * plain.size() + 16) != plain;
}

const char* judge(const std::string& line) {
  if (has_hidden(line)) return "hidden characters";
  if (auto* what = find_word(line)) return what;
  if (is_pragma(line)) return "pragma";
  return line.size() > kLongLine ? "long line" : nullptr;
}

}  // namespace

std::vector<Hint> find_hints(const Sources& sources, size_t limit) {
  std::vector<Hint> hints;
  for (auto& source : sources) {
    size_t number = 0;
    for (size_t begin = 0; begin < source.bytes.size();) {
      size_t end = std::min(source.bytes.find('\n', begin), source.bytes.size());
      std::string line = source.bytes.substr(begin, end - begin);
      begin = end + 1;
      ++number;
      auto* what = judge(line);
      if (!what) continue;
      if (hints.size() == limit) return hints;
      size_t text = std::min(line.find_first_not_of(" \t"), line.size());
      hints.push_back({what, source.path, number, printable(line.substr(text), 120)});
    }
  }
  return hints;
}

}  // namespace pretrained::code
