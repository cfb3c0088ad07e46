#include "pretrained/code/includes.h"

#include <algorithm>
#include <set>

#include "pretrained/base/error.h"

namespace pretrained::code {
namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || static_cast<unsigned char>(c) >= 0x80;
}
bool is_newline(char c) { return c == '\n' || c == '\r'; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\f' || c == '\v'; }

const std::set<std::string, std::less<>> kReading = {"include", "include_next", "import", "embed",
                                                     "__include_macros"};
const std::set<std::string, std::less<>> kAsking = {"__has_include", "__has_include_next",
                                                    "__has_embed"};
const std::set<std::string, std::less<>> kRaw = {"R", "LR", "uR", "UR", "u8R"};
const std::set<std::string, std::less<>> kPragmas = {"once",
                                                     "STDC",
                                                     "omp",
                                                     "unroll",
                                                     "pack",
                                                     "message",
                                                     "region",
                                                     "endregion",
                                                     "mark",
                                                     "nounroll",
                                                     "push_macro",
                                                     "pop_macro",
                                                     "GCC diagnostic",
                                                     "GCC push_options",
                                                     "GCC pop_options",
                                                     "GCC optimize",
                                                     "GCC target",
                                                     "GCC unroll",
                                                     "GCC ivdep",
                                                     "GCC poison",
                                                     "GCC visibility",
                                                     "GCC warning",
                                                     "GCC error",
                                                     "clang diagnostic",
                                                     "clang loop",
                                                     "clang fp",
                                                     "clang attribute",
                                                     "clang optimize",
                                                     "clang unsafe_buffer_usage"};

class Scanner {
 public:
  Scanner(const std::string& text, const std::string& file) : text_(text), file_(file) {
    if (text_.find('\0') != text_.npos) refuse("is no text: it holds a zero byte");
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;
  }

  std::vector<Include> scan() {
    bool fresh = true;  // nothing but blanks and comments on this line so far
    while (char c = peek()) {
      start_ = line_;
      if (is_newline(c)) {
        take();
        fresh = true;
      } else if (is_blank(c)) {
        take();
      } else if (comment()) {
      } else if (fresh && (c == '#' || next_is("%:"))) {
        if (take() == '%') take();
        directive();
        fresh = false;
      } else {
        fresh = false;
        if (c == '"' || c == '\'')
          literal();
        else if (is_word(c))
          word();
        else
          take();
      }
    }
    return std::move(found_);
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw FormatError(file_ + ":" + std::to_string(start_) + ": " + why);
  }

  // The character here, past splices; zero at the end.
  char peek() {
    for (;;) {
      if (at_ >= text_.size()) return 0;
      if (text_[at_] != '\\') return text_[at_];
      size_t end = at_ + 1;  // compilers take blanks between the backslash and the end of line
      while (end < text_.size() && is_blank(text_[end])) ++end;
      if (end >= text_.size() || !is_newline(text_[end])) return '\\';
      at_ = end;
      skip_newline();
    }
  }
  void skip_newline() {
    at_ += text_.compare(at_, 2, "\r\n") == 0 ? 2 : 1;
    ++line_;
  }
  char take() {
    char c = peek();
    if (is_newline(c))
      skip_newline();
    else
      ++at_;
    return c;
  }
  bool next_is(std::string_view wanted) {
    size_t at = at_, line = line_;
    bool same = std::all_of(wanted.begin(), wanted.end(), [&](char c) {
      bool equal = peek() == c;
      if (equal) ++at_;
      return equal;
    });
    at_ = at, line_ = line;
    return same;
  }

  bool comment() {
    if (next_is("//")) {
      while (peek() && !is_newline(peek())) take();
      return true;
    }
    if (!next_is("/*")) return false;
    take(), take();
    while (peek() && !next_is("*/")) take();
    take(), take();
    return true;
  }
  void skip_blanks() {
    while (is_blank(peek()) || comment()) {
      if (is_blank(peek())) take();
    }
  }
  std::string take_word() {
    std::string word;
    while (is_word(peek())) word += take();
    return word;
  }

  void directive() {
    skip_blanks();
    std::string name = take_word();
    if (kReading.contains(name)) header_name(name == "embed");
    if (name == "pragma") {
      skip_blanks();
      std::string first = take_word();
      skip_blanks();
      check_pragma(first, take_word());
    }
  }
  void check_pragma(const std::string& first, const std::string& second) const {
    if (!kPragmas.contains(first) && !kPragmas.contains(first + " " + second))
      refuse("'#pragma " + printable((first + " " + second).substr(0, 60)) +
             "' is not for model code");
  }

  void header_name(bool embedded) {
    skip_blanks();
    char open = peek();
    if (open != '"' && open != '<')
      refuse("a file that is included must be spelled out, not by a macro");
    take();
    std::string name;
    while (peek() && !is_newline(peek()) && peek() != (open == '"' ? '"' : '>')) name += take();
    if (!is_newline(peek())) take();
    check_name(name, open == '"');
    found_.push_back({name, open == '"', embedded, start_});
  }
  void check_name(const std::string& name, bool quoted) const {
    bool climbs = ("/" + name + "/").find("/../") != std::string::npos;
    if (name.empty() || name[0] == '/' || name.find('\\') != name.npos || name.size() > 1024 ||
        (climbs && !quoted))
      refuse("the include '" + printable(name) + "' leads out of the folder");
    if (!quoted && !is_known_header(name))
      refuse("includes <" + printable(name) +
             ">; model code has the standard library, torch, pretrained and its own files");
  }

  void word() {
    bool number = peek() >= '0' && peek() <= '9';
    std::string word = take_word();
    // 1'000'000
    while (number && peek() == '\'' && at_ + 1 < text_.size() && is_word(text_[at_ + 1])) {
      take();
      take_word();
    }
    if (kRaw.contains(word) && peek() == '"') return raw_literal();
    if (kAsking.contains(word)) {
      skip_blanks();
      if (peek() != '(') return;  // defined(__has_include)
      take();
      header_name(word == "__has_embed");
    }
    if (word == "_Pragma") {
      skip_blanks();
      if (peek() == '(') take();
      skip_blanks();
      if (peek() != '"') return;
      take();
      skip_blanks();
      std::string first = take_word();
      skip_blanks();
      check_pragma(first, take_word());
      rest_of_literal('"');
    }
  }

  void literal() { rest_of_literal(take()); }
  void rest_of_literal(char quote) {
    std::string content;
    while (peek() && !is_newline(peek()) && peek() != quote) {
      if (peek() == '\\') content += take();
      content += take();
    }
    if (peek() == quote) take();
    check_content(content);
  }
  // Splices are none inside.
  void raw_literal() {
    size_t open = text_.find('(', at_);
    if (open == text_.npos || open - at_ > 17) return literal();
    std::string end = ")" + text_.substr(at_ + 1, open - at_ - 1) + "\"";
    size_t close = std::min(text_.find(end, open), text_.size());
    check_content(text_.substr(open, close - open));
    for (close = std::min(close + end.size(), text_.size()); at_ < close;)
      is_newline(text_[at_]) ? skip_newline() : void(++at_);
  }
  void check_content(const std::string& content) const {
    if (content.find(".incbin") != content.npos) refuse("'.incbin' is not for model code");
  }

  const std::string& text_;
  const std::string& file_;
  size_t at_ = 0, line_ = 1;
  size_t start_ = 1;  // where what is being read began
  std::vector<Include> found_;
};

const std::set<std::string, std::less<>> kHeaders = {
    "algorithm", "any", "array", "atomic", "barrier", "bit", "bitset", "charconv", "chrono",
    "codecvt", "compare", "complex", "concepts", "condition_variable", "coroutine", "deque",
    "exception", "execution", "expected", "filesystem", "format", "forward_list", "fstream",
    "functional", "future", "generator", "initializer_list", "iomanip", "ios", "iosfwd", "iostream",
    "istream", "iterator", "latch", "limits", "list", "locale", "map", "mdspan", "memory",
    "memory_resource", "mutex", "new", "numbers", "numeric", "optional", "ostream", "print",
    "queue", "random", "ranges", "ratio", "regex", "scoped_allocator", "semaphore", "set",
    "shared_mutex", "source_location", "span", "spanstream", "sstream", "stack", "stacktrace",
    "stdexcept", "stdfloat", "stop_token", "streambuf", "string", "string_view", "strstream",
    "syncstream", "system_error", "thread", "tuple", "type_traits", "typeindex", "typeinfo",
    "unordered_map", "unordered_set", "utility", "valarray", "variant", "vector", "version",
    "cassert", "cctype", "cerrno", "cfenv", "cfloat", "cinttypes", "climits", "clocale", "cmath",
    "csetjmp", "csignal", "cstdarg", "cstddef", "cstdint", "cstdio", "cstdlib", "cstring", "ctime",
    "cuchar", "cwchar", "cwctype", "assert.h", "complex.h", "ctype.h", "errno.h", "fenv.h",
    "float.h", "inttypes.h", "iso646.h", "limits.h", "locale.h", "math.h", "setjmp.h", "signal.h",
    "stdalign.h", "stdarg.h", "stdatomic.h", "stdbool.h", "stddef.h", "stdint.h", "stdio.h",
    "stdlib.h", "string.h", "tgmath.h", "time.h", "uchar.h", "wchar.h", "wctype.h",
    // intrinsics
    "immintrin.h", "x86intrin.h", "mmintrin.h", "xmmintrin.h", "emmintrin.h", "pmmintrin.h",
    "tmmintrin.h", "smmintrin.h", "nmmintrin.h", "wmmintrin.h", "ammintrin.h", "cpuid.h",
    "arm_neon.h", "arm_fp16.h", "arm_bf16.h", "arm_sve.h", "arm_acle.h"};

}  // namespace

std::vector<Include> scan_includes(const std::string& text, const std::string& file) {
  return Scanner(text, file).scan();
}

bool is_known_header(const std::string& name) {
  for (auto* folder : {"torch/", "ATen/", "c10/", "pretrained/"})
    if (name.starts_with(folder)) return true;
  return kHeaders.contains(name);
}

}  // namespace pretrained::code
