#include "progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "pretrained/base/error.h"

namespace pretrained::cli {
namespace {

using namespace std::chrono_literals;

constexpr size_t kFiles = 5;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::string bar(uint64_t done, uint64_t total, size_t width, bool colours) {
  size_t filled = total ? std::min(width, size_t(double(width) * double(done) / double(total))) : 0;
  std::string full(filled, '#'), rest(width - filled, '.');
  return colours ? "[\033[36m" + full + "\033[0m" + rest + "]" : "[" + full + rest + "]";
}

}  // namespace

std::string size_text(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  double value = double(bytes);
  size_t unit = 0;
  while (value >= 999.95 && unit + 1 < std::size(kUnits)) value /= 1000, ++unit;
  char text[32];
  std::snprintf(text, sizeof text, unit ? "%.1f %s" : "%.0f %s", value, kUnits[unit]);
  return text;
}

std::string duration_text(double seconds) {
  auto whole = int64_t(std::clamp(seconds, 0.0, 359999.0) + 0.5);
  char text[32];
  if (whole < 3600)
    std::snprintf(text, sizeof text, "%d:%02d", int(whole / 60), int(whole % 60));
  else
    std::snprintf(text, sizeof text, "%d:%02d:%02d", int(whole / 3600), int(whole / 60 % 60),
                  int(whole % 60));
  return text;
}

std::string date_text(int64_t seconds) {
  std::time_t time = seconds;
  std::tm parts{};
  char text[32] = "";
  if (gmtime_r(&time, &parts)) std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts);
  return text;
}

std::string percent_text(uint64_t done, uint64_t total) {
  int percent = total ? int(100.0 * double(std::min(done, total)) / double(total)) : 100;
  std::string text = std::to_string(percent) + "%";
  return std::string(4 - std::min<size_t>(4, text.size()), ' ') + text;
}

void ProgressBar::update(uint64_t done, uint64_t total) {
  auto now = Clock::now();
  if (!display_.is_shown() || total == 0 || (now - drawn_ < 100ms && done < total)) return;
  drawn_ = now;
  double seconds = seconds_between(started_, now),
         left = done ? seconds * double(total - done) / double(done) : 0;
  std::string rest = " " + percent_text(done, total) + "  " + duration_text(seconds) + ", " +
                     duration_text(left) + " left";
  size_t used = title_.size() + 3 + rest.size(), columns = display_.columns();
  if (used + 5 > columns) return display_.draw({shortened(title_ + rest, columns)});
  size_t width = std::min<size_t>(columns - used, 30);
  display_.draw({title_ + " " + bar(done, total, width, display_.has_colours()) + rest});
}

TransferProgress::TransferProgress(std::string title, bool quiet)
    : title_(std::move(title)), quiet_(quiet), display_(quiet) {}

void TransferProgress::note_file(const hub::TransferEvent& event) {
  using Kind = hub::TransferEvent::Kind;
  auto file = std::find_if(active_.begin(), active_.end(),
                           [&](auto& active) { return active.name == event.file; });
  bool known = file != active_.end();
  if (event.kind == Kind::progress && known) {
    // A file that passes again, or again from its start, is shown where it got to.
    if (event.done > file->done) moved_ += event.done - file->done, file->done = event.done;
  } else if (event.kind == Kind::progress && event.done < event.total) {
    active_.push_back({event.file, event.done, event.total});  // what a resume found is no speed
  } else if (event.kind == Kind::finished && known) {
    moved_ += file->total - std::min(file->done, file->total);
    active_.erase(file);
  } else if (event.kind == Kind::finished &&
             (event.text == "downloaded" || event.text == "uploaded")) {
    moved_ += event.total;
  }
}

// An average that forgets within some five seconds.
void TransferProgress::measure(Clock::time_point now) {
  double seconds = seconds_between(measured_at_, now);
  if (seconds < 0.5) return;
  double rate = double(moved_ - measured_) / seconds;
  rate_ = rate_ > 0 ? rate_ + (rate - rate_) * (1 - std::exp(-seconds / 5)) : rate;
  measured_ = moved_, measured_at_ = now;
}

std::string TransferProgress::total_line(const hub::TransferEvent& event) const {
  std::string rest = percent_text(event.all_done, event.all_total) + "  " +
                     size_text(event.all_done) + " / " + size_text(event.all_total);
  std::string speed, files = "  " + std::to_string(event.files_done) + "/" +
                             std::to_string(event.files_total) + " files";
  if (rate_ >= 1) {
    double left = double(event.all_total - std::min(event.all_done, event.all_total)) / rate_;
    speed = "  " + size_text(uint64_t(rate_)) + "/s  " + duration_text(left) + " left";
  }
  // What matters least goes first where the terminal is narrow.
  size_t columns = display_.columns(), used = title_.size() + 4 + rest.size();
  if (used + speed.size() + files.size() + 10 > columns) files.clear();
  if (used + speed.size() + 10 > columns) speed.clear();
  rest += speed + files;
  used = title_.size() + 4 + rest.size();
  if (used + 5 > columns) return shortened(rest, columns);
  return title_ + " " +
         bar(event.all_done, event.all_total, std::min<size_t>(columns - used, 30),
             display_.has_colours()) +
         " " + rest;
}

std::string TransferProgress::file_line(const File& file) const {
  std::string rest = " " + percent_text(file.done, file.total) + "  " + size_text(file.done) +
                     " / " + size_text(file.total);
  size_t columns = display_.columns(),
         room = columns > rest.size() + 2 ? columns - rest.size() - 2 : 0;
  std::string name = shortened(printable(file.name), std::min<size_t>(room, 60));
  return shortened("  " + name + rest, columns);
}

std::string TransferProgress::plain_line(const hub::TransferEvent& event) const {
  std::string line = title_ + ": " + size_text(event.all_done) + " of " +
                     size_text(event.all_total) + ", " + std::to_string(event.files_done) + " of " +
                     std::to_string(event.files_total) + " files";
  return rate_ >= 1 ? line + ", " + size_text(uint64_t(rate_)) + "/s" : line;
}

void TransferProgress::update(const hub::TransferEvent& event) {
  if (quiet_) return;
  if (event.kind == hub::TransferEvent::Kind::notice) {
    clear();
    return print_line(event.text);
  }
  note_file(event);
  auto now = Clock::now();
  if (now - drawn_ < (display_.is_shown() ? 100ms : 5000ms)) return;
  drawn_ = now;
  measure(now);
  if (!display_.is_shown()) {
    if (!progress_is_disabled()) print_line(plain_line(event));
    return;
  }
  std::vector<std::string> lines{total_line(event)};
  for (auto& file : active_)
    if (lines.size() <= kFiles) lines.push_back(file_line(file));
  if (active_.size() > kFiles)
    lines.push_back(shortened("  and " + std::to_string(active_.size() - kFiles) + " more",
                              display_.columns()));
  display_.draw(lines);
}

}  // namespace pretrained::cli
