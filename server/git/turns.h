#pragma once
// How many children do heavy work (packs made, indexed, repacked) at once in this process, because
// each needs memory: see child.cpp for how much.

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "server/git/git_store.h"

namespace pretrained::server {

class Turns {
 public:
  explicit Turns(size_t count) : free_(count) {}
  static Turns& of_process();  // 16, or 4 for each processor
  // Those of one address, half of all: who reads slowly keeps a turn for long, but never
  // everybody's.
  static std::shared_ptr<Turns> of_client(const std::string& address);

 private:
  friend class Turn;
  std::mutex mutex_;
  std::condition_variable freed_;
  size_t free_;
};

// Waits for a turn and has it until destruction; Busy when that takes too long.
class Turn {
 public:
  explicit Turn(Turns& turns, std::chrono::milliseconds patience = std::chrono::seconds(30))
      : turns_(turns) {
    std::unique_lock lock(turns_.mutex_);
    if (!turns_.freed_.wait_for(lock, patience, [&] { return turns_.free_ > 0; }))
      throw Busy("too many clones and pushes at once; try again in a moment");
    --turns_.free_;
  }
  ~Turn() {
    std::lock_guard lock(turns_.mutex_);
    ++turns_.free_;
    turns_.freed_.notify_one();
  }
  Turn(const Turn&) = delete;

 private:
  Turns& turns_;
};

class ClientTurn {
 public:
  explicit ClientTurn(const std::string& address)
      : turns_(Turns::of_client(address)), turn_(*turns_) {}

 private:
  std::shared_ptr<Turns> turns_;
  Turn turn_;
};

}  // namespace pretrained::server
