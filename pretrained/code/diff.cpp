#include "pretrained/code/diff.h"

#include <algorithm>
#include <map>
#include <span>
#include <string_view>

#include "pretrained/base/error.h"

namespace pretrained::code {
namespace {

constexpr size_t kContext = 3, kMaxLine = 400;
// Myers' algorithm takes time and memory by the square of this.
constexpr ptrdiff_t kMaxEdits = 1000;

using Lines = std::vector<std::string_view>;

Lines split(std::string_view text) {
  Lines lines;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size() - 1);
    lines.push_back(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
  }
  return lines;
}

struct Edit {
  char sign;  // ' ', '-', '+'
  std::string_view line;
};

// Appends the edits of a shortest script from a to b, or of the plainest where that is long.
void compare(std::span<const std::string_view> a, std::span<const std::string_view> b,
             std::vector<Edit>& edits) {
  auto n = ptrdiff_t(a.size()), m = ptrdiff_t(b.size());
  // furthest[d][k + d]: how far into a the best script of d edits on diagonal k reaches.
  std::vector<std::vector<ptrdiff_t>> furthest;
  auto reach = [&](ptrdiff_t d, ptrdiff_t k) {
    return d < 0 || k < -d || k > d ? ptrdiff_t(-1) : furthest[size_t(d)][size_t(k + d)];
  };
  auto comes_down = [&](ptrdiff_t d, ptrdiff_t k) {
    return k == -d || (k != d && reach(d - 1, k - 1) < reach(d - 1, k + 1));
  };
  bool found = false;
  for (ptrdiff_t d = 0; !found && d <= std::min(n + m, kMaxEdits); ++d) {
    furthest.emplace_back(size_t(2 * d + 1), -1);
    for (ptrdiff_t k = -d; k <= d && !found; k += 2) {
      ptrdiff_t x = d == 0 ? 0 : comes_down(d, k) ? reach(d - 1, k + 1) : reach(d - 1, k - 1) + 1;
      while (x < n && x - k < m && a[size_t(x)] == b[size_t(x - k)]) ++x;
      furthest[size_t(d)][size_t(k + d)] = x;
      found = x >= n && x - k >= m;
    }
  }
  if (!found) {
    for (auto line : a) edits.push_back({'-', line});
    for (auto line : b) edits.push_back({'+', line});
    return;
  }
  size_t first = edits.size();
  ptrdiff_t x = n, y = m;
  for (auto d = ptrdiff_t(furthest.size()) - 1; d >= 0; --d) {
    ptrdiff_t k = x - y;
    bool down = d > 0 && comes_down(d, k);
    ptrdiff_t from_k = down ? k + 1 : k - 1;
    ptrdiff_t from_x = d == 0 ? 0 : reach(d - 1, from_k), from_y = d == 0 ? 0 : from_x - from_k;
    ptrdiff_t start = d == 0 ? 0 : down ? from_x : from_x + 1;
    for (; x > start; --x, --y) edits.push_back({' ', a[size_t(x - 1)]});
    if (d > 0) edits.push_back(down ? Edit{'+', b[size_t(from_y)]} : Edit{'-', a[size_t(from_x)]});
    x = from_x, y = from_y;
  }
  std::reverse(edits.begin() + ptrdiff_t(first), edits.end());
}

std::vector<Edit> edits_between(std::string_view before, std::string_view after) {
  Lines a = split(before), b = split(after);
  size_t head = 0, tail = 0, least = std::min(a.size(), b.size());
  while (head < least && a[head] == b[head]) ++head;
  while (tail < least - head && a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) ++tail;
  std::vector<Edit> edits;
  for (size_t i = 0; i < head; ++i) edits.push_back({' ', a[i]});
  compare(std::span(a).subspan(head, a.size() - head - tail),
          std::span(b).subspan(head, b.size() - head - tail), edits);
  for (size_t i = a.size() - tail; i < a.size(); ++i) edits.push_back({' ', a[i]});
  return edits;
}

std::string shown(const Edit& edit) {
  std::string_view line = edit.line;
  bool whole = line.ends_with('\n');
  if (whole) line.remove_suffix(1);
  std::string text;
  for (char c : line.substr(0, kMaxLine)) text += c == '\t' ? std::string(4, ' ') : std::string{c};
  std::string out = edit.sign + printable(text, 4 * kMaxLine);
  if (line.size() > kMaxLine)
    out += "… (" + std::to_string(line.size() - kMaxLine) + " more bytes in this line)";
  return out + (whole ? "\n" : "\n\\ No newline at end of file\n");
}

std::string range(size_t begin, size_t count) {
  return std::to_string(count == 0 ? begin : begin + 1) + "," + std::to_string(count);
}

void append_hunks(const std::vector<Edit>& edits, std::vector<std::string>& rows) {
  size_t line_a = 0, line_b = 0, i = 0;
  auto step = [&] {
    line_a += edits[i].sign != '+';
    line_b += edits[i].sign != '-';
    ++i;
  };
  auto next_change = [&](size_t from) {
    while (from < edits.size() && edits[from].sign == ' ') ++from;
    return from;
  };
  for (size_t change = next_change(0); change < edits.size(); change = next_change(i)) {
    while (i + kContext < change) step();
    size_t end = change;
    for (size_t next = change; next < edits.size() && next <= end + 2 * kContext;
         next = next_change(next + 1))
      end = next;
    end = std::min(edits.size(), end + 1 + kContext);
    size_t begin_a = line_a, begin_b = line_b, header = rows.size();
    rows.emplace_back();
    while (i < end) {
      rows.push_back(shown(edits[i]));
      step();
    }
    rows[header] = "@@ -" + range(begin_a, line_a - begin_a) + " +" +
                   range(begin_b, line_b - begin_b) + " @@\n";
  }
}

}  // namespace

std::string unified_diff(const Sources& before, const Sources& after, size_t max_lines) {
  std::map<std::string, std::pair<const std::string*, const std::string*>> files;
  for (auto& file : before) files[file.path].first = &file.bytes;
  for (auto& file : after) files[file.path].second = &file.bytes;
  std::vector<std::string> rows;
  for (auto& [path, versions] : files) {
    auto [a, b] = versions;
    if (a && b && *a == *b) continue;
    rows.push_back("--- " + (a ? "a/" + printable(path) : "/dev/null") + "\n");
    rows.push_back("+++ " + (b ? "b/" + printable(path) : "/dev/null") + "\n");
    append_hunks(edits_between(a ? *a : std::string_view(), b ? *b : std::string_view()), rows);
  }
  std::string out;
  for (size_t i = 0; i < std::min(rows.size(), max_lines); ++i) out += rows[i];
  if (rows.size() > max_lines)
    out += "… (" + std::to_string(rows.size() - max_lines) + " more lines)\n";
  return out;
}

}  // namespace pretrained::code
