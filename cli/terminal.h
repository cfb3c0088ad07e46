#pragma once
// Standard error, which may be a terminal.

#include <string>
#include <vector>

namespace pretrained::cli {

// One line that no file's name or key can break out of.
void print_line(const std::string& line);

// Lines at the bottom of the terminal that are drawn over again while something runs. The cursor
// stays visible: a process that is killed leaves nothing to repair.
class Display {
 public:
  // Nothing is drawn where stderr is no terminal or a dumb one, with --quiet or
  // HF_HUB_DISABLE_PROGRESS_BARS.
  explicit Display(bool quiet);
  ~Display() { clear(); }
  bool is_shown() const { return shown_; }
  bool has_colours() const { return colours_; }  // NO_COLOR
  // None may be wider than columns(); those that the terminal has no rows for are left out.
  void draw(const std::vector<std::string>& lines);
  // Before anything else is printed: stdout may be the same terminal.
  void clear();
  size_t columns() const;

 private:
  bool shown_, colours_;
  size_t drawn_ = 0;  // lines
};

// HF_HUB_DISABLE_PROGRESS_BARS
bool progress_is_disabled();

// How many columns of a terminal printable text takes, and what of it fits into so many.
size_t width_of(const std::string& text);
std::string shortened(const std::string& text, size_t columns);  // "a-very-lo…ensors"

}  // namespace pretrained::cli
