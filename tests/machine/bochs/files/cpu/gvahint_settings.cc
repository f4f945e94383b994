// SPDX-License-Identifier: GPL-2.0
//
// Parses the environment; gvahint_settings.h says what there is.

#include "bochs.h"
#include "gvahint_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const profile_names[] = { "combined-only", "leaf-cached", "fragments", "off", NULL };
static const char *const tlb_names[] = { "small", "large", "huge", NULL };

static void refuse(const char *variable, const char *value, const char *known)
{
  fprintf(stderr, "bochs: %s=%s is not known; use %s\n", variable, value, known);
  exit(2);
}

// An empty variable counts as one that is not set.
static const char *from_environment(const char *variable)
{
  const char *value = getenv(variable);
  return value && *value ? value : NULL;
}

// Which of the names the variable has, or `fallback` if it is not set.
static unsigned one_of(const char *variable, const char *const *names, const char *known, unsigned fallback)
{
  const char *value = from_environment(variable);
  if (! value) return fallback;
  for (unsigned n = 0; names[n]; n++)
    if (! strcmp(value, names[n])) return n;
  refuse(variable, value, known);
  return fallback;
}

static void parse_mask(GvahintSettings &settings, const char *list)
{
  while (*list) {
    const size_t length = strcspn(list, ",");
    if (length == 15 && ! strncmp(list, "no-invvpid-addr", length))
      settings.mask_invvpid_address = true;
    else if (length == 9 && ! strncmp(list, "no-ept-ad", length))
      settings.mask_ept_ad = true;
    else
      refuse("GVAHINT_MASK", list, "a comma list of no-invvpid-addr, no-ept-ad");
    list += length + (list[length] == ',');
  }
}

static GvahintSettings parse(void)
{
  GvahintSettings settings;
  const char *value;

  settings.profile = (GvahintSettings::Profile) one_of(
    "GVAHINT_PROFILE", profile_names, "combined-only, leaf-cached, fragments or off",
    GvahintSettings::COMBINED_ONLY);
  settings.tlb = (GvahintSettings::Tlb) one_of(
    "GVAHINT_TLB", tlb_names, "small, large or huge", GvahintSettings::LARGE);

  settings.mask_invvpid_address = settings.mask_ept_ad = false;
  value = from_environment("GVAHINT_MASK");
  if (value) parse_mask(settings, value);

  settings.status_file = from_environment("GVAHINT_STATUS");
  settings.counters_file = from_environment("GVAHINT_COUNTERS");
  return settings;
}

const GvahintSettings &gvahint_settings()
{
  static const GvahintSettings settings = parse();
  return settings;
}

const char *GvahintSettings::profile_name() const
{
  return profile_names[profile];
}

const char *GvahintSettings::tlb_name() const
{
  return tlb_names[tlb];
}
