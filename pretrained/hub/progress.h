#pragma once
// Counts a transfer and tells OnTransfer: at once when something is planned or finished, about 20
// times a second while bytes come.

#include <chrono>
#include <exception>
#include <mutex>

#include "pretrained/hub/transfer.h"

namespace pretrained::hub {

class Progress {
 public:
  explicit Progress(OnTransfer on_transfer) : on_transfer_(std::move(on_transfer)) {}

  void plan(uint64_t files, uint64_t bytes);
  void notice(const std::string& text);
  // More bytes of a file: `done` of `total` now.
  void add(const std::string& file, uint64_t bytes, uint64_t done, uint64_t total);
  void received(uint64_t wire_bytes);
  // Bytes that were counted are not there after all.
  void take_back(uint64_t bytes);
  void finished(const std::string& file, uint64_t size, const std::string& how);

  // Throws where another thread has failed: its own error comes out of the transfer.
  void check();
  // Of the first to fail, kept; everybody else stops at the next check().
  void fail(std::exception_ptr error);
  void rethrow();
  uint64_t wire_bytes();

 private:
  void tell(TransferEvent::Kind kind, const std::string& file, uint64_t done, uint64_t total,
            const std::string& text);
  OnTransfer on_transfer_;
  std::mutex mutex_;
  TransferEvent state_;
  std::exception_ptr error_;
  std::chrono::steady_clock::time_point told_{};
};

// What check() throws; no error of its own.
struct Stopped {};

}  // namespace pretrained::hub
