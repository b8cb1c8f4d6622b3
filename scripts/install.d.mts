/** @file Types of the helpers that TypeScript configuration uses; see install.mjs. */
export declare const ROOT: string
export declare function findBrowser(): string | null
