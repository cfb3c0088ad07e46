#pragma once
// Tensors with names, in order: what a model takes and gives, and a state_dict.

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained {

class PRETRAINED_API NamedTensors {
 public:
  using Item = std::pair<std::string, at::Tensor>;

  NamedTensors() = default;
  // An undefined tensor is an absent one and is left out. A name that stands twice is an
  // ArgumentError.
  NamedTensors(std::initializer_list<Item> items);

  // Throws ArgumentError that lists the names there are.
  const at::Tensor& operator[](const std::string& name) const;
  bool contains(const std::string& name) const { return find(name) != nullptr; }
  const at::Tensor* find(const std::string& name) const;
  void insert(std::string name, at::Tensor tensor);
  std::string names() const;  // "loss, logits"

  size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }

 private:
  std::vector<Item> items_;
  std::unordered_map<std::string, size_t> places_;  // of all items, where they are many
};

}  // namespace pretrained
