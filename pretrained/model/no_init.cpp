#include "pretrained/model/no_init.h"

#include <torch/library.h>

// The key is unused by LibTorch itself and comes before every backend, so that its kernels see the
// call first.
namespace {
constexpr auto kKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

at::Tensor& skip_uniform(at::Tensor& self, double, double, std::optional<at::Generator>) {
  return self;
}
at::Tensor& skip_normal(at::Tensor& self, double, double, std::optional<at::Generator>) {
  return self;
}
}  // namespace

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, library) {
  library.fallback(torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, TESTING_ONLY_GenericMode, library) {
  library.impl("uniform_", skip_uniform);
  library.impl("normal_", skip_normal);
}

namespace pretrained {
NoInitGuard::NoInitGuard() : guard_(new c10::impl::IncludeDispatchKeyGuard(kKey)) {}
NoInitGuard::~NoInitGuard() { delete static_cast<c10::impl::IncludeDispatchKeyGuard*>(guard_); }
}  // namespace pretrained
