#pragma once
// How far something is, on stderr: nothing with --quiet or HF_HUB_DISABLE_PROGRESS_BARS.

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "pretrained/hub/transfer.h"
#include "terminal.h"

namespace pretrained::cli {

using Clock = std::chrono::steady_clock;

std::string size_text(uint64_t bytes);                    // "85.3 MB"
std::string duration_text(double seconds);                // "0:21"
std::string date_text(int64_t seconds);                   // "2026-01-31 12:00", UTC
std::string percent_text(uint64_t done, uint64_t total);  // " 43%"

// One line on a terminal while it moves, nothing elsewhere.
class ProgressBar {
 public:
  ProgressBar(std::string title, bool quiet) : title_(std::move(title)), display_(quiet) {}
  void update(uint64_t done, uint64_t total);
  void clear() { display_.clear(); }

 private:
  std::string title_;
  Display display_;
  Clock::time_point started_ = Clock::now(), drawn_{};
};

// Files on their way from or to a hub. On a terminal a bar for all of them and a line for each that
// moves now; elsewhere a plain line every few seconds.
class TransferProgress {
 public:
  TransferProgress(std::string title, bool quiet);
  void update(const hub::TransferEvent& event);
  // Before anything else is printed.
  void clear() { display_.clear(); }

 private:
  struct File {
    std::string name;
    uint64_t done, total;
  };
  void note_file(const hub::TransferEvent& event);
  void measure(Clock::time_point now);
  std::string total_line(const hub::TransferEvent& event) const;
  std::string file_line(const File& file) const;
  std::string plain_line(const hub::TransferEvent& event) const;

  std::string title_;
  bool quiet_;
  Display display_;
  std::vector<File> active_;
  uint64_t moved_ = 0, measured_ = 0;  // bytes since the start, without what was there already
  double rate_ = 0;                    // bytes per second, smoothed
  Clock::time_point started_ = Clock::now(), drawn_ = started_, measured_at_ = started_;
};

}  // namespace pretrained::cli
