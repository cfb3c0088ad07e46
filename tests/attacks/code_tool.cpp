// What the attacks are run against:
//   code_tool load FOLDER CACHE [SANDBOX [SECONDS [MiB]]]   next() of model.h, through the library
//   code_tool race FOLDER CACHE COUNT                       so often, in a process of its own each
//   code_tool audit FILE ENTRY                              the audit alone
// Prints "ok VALUE", or the kind of the error and its message; a compiler's log follows after a
// line "--". race prints each value with how often it came.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <new>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/code/build.h"
#include "pretrained/code/elf.h"

using namespace pretrained;

namespace {

constexpr auto kStub =
    "#include \"model.h\"\nextern \"C\" __attribute__((visibility(\"default\"))) int answer() { "
    "return next(); }\n";

code::Sandbox sandbox_of(const std::string& name) {
  if (name == "bubblewrap") return code::Sandbox::bubblewrap;
  if (name == "landlock") return code::Sandbox::landlock;
  if (name == "none") return code::Sandbox::none;
  return code::Sandbox::automatic;
}

int load(int count, char** words) {
  code::Toolchain toolchain;
  toolchain.cache_dir = words[1];
  toolchain.notice = [](const std::string& line) { std::cerr << line << "\n"; };
  if (count > 2) toolchain.sandbox = sandbox_of(words[2]);
  if (count > 3) toolchain.time_limit = std::chrono::seconds(std::atoi(words[3]));
  if (count > 4) toolchain.memory_limit = uint64_t(std::atoi(words[4])) << 20;
  auto& library = code::load(code::read_sources(words[0], {"model"}), kStub, "answer", toolchain);
  int value = reinterpret_cast<int (*)()>(library.symbol("answer"))();
  // This program's own allocator and symbols are still its own.
  std::string text(100000, 'x');
  delete[] new int[1000];
  if (dlsym(RTLD_DEFAULT, "answer") || dlsym(RTLD_DEFAULT, "planted"))
    throw Error("a symbol of the library is visible to all");
  return value;
}

void race(char** words) {
  std::map<int, int> values;
  for (int i = 0; i < std::atoi(words[2]); ++i) {
    pid_t child = fork();
    if (child == 0) try {
        _exit(load(2, words));
      } catch (const Error& error) {
        std::cerr << error.what() << std::endl;
        _exit(1);
      }
    int status = 0;
    waitpid(child, &status, 0);
    ++values[WIFEXITED(status) ? WEXITSTATUS(status) : 255];
  }
  for (auto& [value, count] : values) std::cout << value << " " << count << "\n";
}

}  // namespace

int main(int count, char** words) {
  std::string verb = count > 1 ? words[1] : "";
  try {
    if (verb == "load" && count >= 4) {
      int value = load(count - 2, words + 2);
      std::cout << "ok " << value << std::endl;
    } else if (verb == "race" && count == 5) {
      race(words + 2);
    } else if (verb == "audit" && count == 4) {
      code::audit(read_file(words[2], 1 << 30), words[3], {});
      std::cout << "ok" << std::endl;
    } else {
      return 2;
    }
    return 0;
  } catch (const CompileError& error) {
    std::cout << "CompileError " << error.what() << "\n--\n" << error.log << std::endl;
  } catch (const FormatError& error) {
    std::cout << "FormatError " << error.what() << std::endl;
  } catch (const NotFoundError& error) {
    std::cout << "NotFoundError " << error.what() << std::endl;
  } catch (const IoError& error) {
    std::cout << "IoError " << error.what() << std::endl;
  } catch (const Error& error) {
    std::cout << "Error " << error.what() << std::endl;
  }
  return 1;
}
