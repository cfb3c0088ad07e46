#include "terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string_view>

#include "pretrained/base/error.h"
#include "pretrained/hub/settings.h"

namespace pretrained::cli {
namespace {

winsize window() {
  winsize size{};
  if (ioctl(2, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) size.ws_col = 80;
  if (size.ws_row == 0) size.ws_row = 24;
  return size;
}

bool is_dumb_terminal() {
  const char* term = std::getenv("TERM");
  return term && std::string_view(term) == "dumb";
}

// Two columns: East Asian scripts and pictographs. What combines counts as one: too wide, never too
// narrow.
bool is_wide(uint32_t c) {
  constexpr std::pair<uint32_t, uint32_t> kWide[] = {
      {0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3},   {0xf900, 0xfaff},  {0xfe30, 0xfe6f},
      {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f000, 0x1faff}, {0x20000, 0x3fffd}};
  return std::any_of(std::begin(kWide), std::end(kWide),
                     [c](auto& range) { return c >= range.first && c <= range.second; });
}

// The characters of valid UTF-8, each with its columns.
std::vector<std::pair<std::string_view, size_t>> characters(std::string_view text) {
  std::vector<std::pair<std::string_view, size_t>> out;
  for (size_t i = 0; i < text.size();) {
    auto lead = static_cast<unsigned char>(text[i]);
    size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    auto bytes = text.substr(i, size);
    uint32_t code = size == 1 ? lead : lead & (0x7fu >> size);
    for (char c : bytes.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3f);
    out.emplace_back(bytes, is_wide(code) ? 2 : 1);
    i += size;
  }
  return out;
}

}  // namespace

void print_line(const std::string& line) { std::cerr << printable(line, 8000) << std::endl; }

bool progress_is_disabled() { return hub::is_true("HF_HUB_DISABLE_PROGRESS_BARS"); }

Display::Display(bool quiet)
    : shown_(!quiet && isatty(2) && !is_dumb_terminal() && !progress_is_disabled()),
      colours_(shown_ && !std::getenv("NO_COLOR")) {}

size_t Display::columns() const { return window().ws_col - 1u; }

void Display::draw(const std::vector<std::string>& lines) {
  if (!shown_ || lines.empty()) return;
  size_t count = std::min<size_t>(lines.size(), std::max(2, int(window().ws_row)) - 1u);
  std::string frame = "\r";
  if (drawn_ > 1) frame += "\033[" + std::to_string(drawn_ - 1) + "A";
  for (size_t i = 0; i < count; ++i) frame += (i ? "\n" : "") + lines[i] + "\033[K";
  if (drawn_ > count) frame += "\033[J";
  drawn_ = count;
  std::fwrite(frame.data(), 1, frame.size(), stderr);
}

void Display::clear() {
  if (drawn_ > 1) std::fprintf(stderr, "\r\033[%zuA\033[J", drawn_ - 1);
  if (drawn_ == 1) std::fputs("\r\033[K", stderr);
  drawn_ = 0;
}

size_t width_of(const std::string& text) {
  size_t columns = 0;
  for (auto& [bytes, width] : characters(text)) columns += width;
  return columns;
}

std::string shortened(const std::string& text, size_t columns) {
  if (width_of(text) <= columns) return text;
  if (columns < 2) return std::string(columns, '.');
  auto all = characters(text);
  std::string head, tail;
  size_t room = columns - 1, left = 0, right = all.size();
  auto fits = [&](size_t at) {
    return left < right && all[at].second <= room ? (room -= all[at].second, true) : false;
  };
  // The end of a name says more than its middle.
  while (width_of(tail) < columns / 2 && fits(right - 1)) tail.insert(0, all[--right].first);
  while (fits(left)) head += all[left++].first;
  return head + "…" + tail;
}

}  // namespace pretrained::cli
