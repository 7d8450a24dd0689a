"""Attribution methods of five papers under one calling convention."""
