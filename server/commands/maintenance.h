#pragma once
// Upkeep of a data folder, online: everything here runs beside a serving hub. What removes blobs
// holds <data>/maintenance.lock, so that a backup sees every blob its copy of the database names.

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "server/commands/hub.h"

namespace pretrained::server {

struct GcReport {
  ContentStore::Freed content;
  uint64_t orphan_bytes = 0, repacked = 0;
};
// Drops large objects that no reference's history names and no lease protects, files and xorbs of
// none, packs and xorbs that no row names; rolls packs together. `remembered`: also xorbs that
// clients may refer to because they uploaded them in the last three weeks.
GcReport collect_garbage(Hub& hub, bool remembered = false);

using Progress = std::function<void(const std::string& step, uint64_t done, uint64_t total)>;
// Problems found; empty: sound. `read_bytes` false looks at rows, names and sizes only.
std::vector<std::string> check(Hub& hub, bool read_bytes, const Progress& progress);

// A consistent copy of the data folder at `target` (must not exist): database first, then every
// blob that it names. Hard links where the file system allows and `link` is true.
void backup(Hub& hub, const std::filesystem::path& target, bool link, const Progress& progress);

// Rolls packs together as soon as a repository has many, and collects garbage every `gc_interval`
// seconds (0: never), until destruction. What other processes left is looked for now and then.
// Problems go to `report`.
class Upkeep {
 public:
  Upkeep(Hub& hub, int64_t gc_interval, std::function<void(const std::string&)> report,
         std::chrono::seconds look_around = std::chrono::seconds(30));
  ~Upkeep();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pretrained::server
