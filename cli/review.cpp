#include "review.h"

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <sstream>

#include "pretrained/base/error.h"
#include "terminal.h"

namespace pretrained::cli {

void print_review(const CodeReview& review) {
  print_line(review.name() + " holds C++ code that would be compiled and run:");
  if (!review.author.empty()) print_line("  author   " + review.author);
  if (!review.date.empty()) print_line("  date     " + review.date);
  print_line("  sha256   " + review.digest);
  for (auto& file : review.files)
    print_line("  file     " + file.path + ", " + std::to_string(file.bytes.size()) + " bytes");
  if (!review.hints.empty()) print_line("  words to look at, a hint and no check:");
  for (auto& hint : review.hints)
    print_line("  " + hint.what + ": " + hint.path + ":" + std::to_string(hint.line) + ": " +
               hint.text);
  if (!review.trusted_before.empty())
    print_line("  what changed since the code was trusted (" + review.trusted_before + "):");
  std::istringstream diff(review.diff);
  for (std::string line; std::getline(diff, line);) print_line(line);
}

bool can_ask() { return isatty(0) && isatty(2); }

bool ask(const std::string& question) {
  tcflush(0, TCIFLUSH);
  std::cerr << printable(question, 1000) << " [y/N] " << std::flush;
  std::string answer;
  for (;;) {
    pollfd input{0, POLLIN, 0};
    if (poll(&input, 1, -1) < 0 && errno == EINTR) continue;
    char c = 0;
    ssize_t got = read(0, &c, 1);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) {
      std::cerr << std::endl;
      return false;
    }
    if (c == '\n') return answer == "y" || answer == "Y" || answer == "yes";
    if (answer.size() < 100) answer += c;
  }
}

}  // namespace pretrained::cli
