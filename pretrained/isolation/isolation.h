#pragma once
// Models that are not trusted, run where they can do nothing but compute.
//
//   auto model = pretrained::AutoModelForImageClassification::from_pretrained(
//       "someone/model", {.isolation = pretrained::Isolation::process});
//
// The model's code lives in a process of its own, without files, network or other processes, with
// bounded memory and time (lockdown.h); in this process nothing of it is ever mapped. Tensors cross
// by shared memory. Parameters, buffers and gradients are shared tensors: named_parameters() and
// state_dict() are the model's own, an optimiser here trains it there. Outputs are bit-equal to
// those of the same code in this process with its weights in memory (use_mmap = false; products of
// matrices differ in the last bit with how those are aligned).
//
// A model that crashes, hangs (call_timeout) or breaks the rules is a ModelProcessError here, and
// nothing else; the model is then of no further use. What it throws, also for want of memory, is
// thrown here, and it lives on. It stays on the CPU and in the dtype it was loaded in; train() and
// eval() of its modules are those of the modules there; backward() is as here, retain_graph too,
// but gradients have no gradients (create_graph). One thread calls it at a time (others wait).
// Where the kernel lacks a guard (Landlock, seccomp) nothing runs: an Error.

#include <chrono>
#include <memory>

#include "pretrained/code/closure.h"
#include "pretrained/model/custom_code.h"
#include "pretrained/model/modeling.h"

namespace pretrained {

// The process of a model ended, did not answer in time, or broke the rules.
class PRETRAINED_API ModelProcessError : public Error {
 public:
  using Error::Error;
};

namespace isolation {

// A stand-in for `model`'s class for `auto_class`, which lies in `code`; its parameters are there
// and not yet filled. Used by from_pretrained.
std::shared_ptr<Model> start(const std::string& auto_class, const Located& model,
                             const Located& code, const AutoMap& auto_map, const Json& config,
                             const FromPretrained& options);

}  // namespace isolation
}  // namespace pretrained
