/* struct file_lock of the image. */
#pragma once
enum file_lock_kind { LOCK_KIND_FLOCK = 1, LOCK_KIND_POSIX = 2, LOCK_KIND_OFD = 3, LOCK_KIND_LEASE = 4 };
